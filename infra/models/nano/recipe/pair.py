"""Several single-threaded trainers that average their gradients once per step.

Owns that exchange. On a machine whose cores are shared with others this is faster than one trainer
with several threads, which meet hundreds of times per step.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn


class Pair:
    """The exchange between trainers; with a single trainer it does nothing."""

    def __init__(self, rank: int, world: int, meet: Path | None) -> None:
        self.rank, self.world = rank, world
        if world > 1:
            dist.init_process_group(
                "gloo", init_method=f"file://{meet}", rank=rank, world_size=world,
                timeout=timedelta(minutes=10),
            )  # fmt: skip

    def average(self, model: nn.Module, factor: float, stop: bool) -> tuple[float, bool]:
        """Average gradients; the schedule's factor is the first trainer's, stopping anybody's."""
        if self.world == 1:
            return factor, stop
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        lead = factor if self.rank == 0 else 0.0
        flat = torch.cat([torch.tensor([lead, float(stop)]), *(g.reshape(-1) for g in grads)])
        dist.all_reduce(flat)
        at = 2
        for grad in grads:
            grad.copy_(flat[at : at + grad.numel()].view_as(grad) / self.world)
            at += grad.numel()
        return float(flat[0]), bool(flat[1] > 0)
