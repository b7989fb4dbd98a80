"""The optimizer: orthogonalised momentum for matrices, AdamW for the rest.

Owns the update rule (Muon: momentum, five Newton-Schulz steps, fixed spectral size) and nothing
else. Matrices of one shape are stacked so that the extra work stays small on a CPU.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

STEPS = (3.4445, -4.7750, 2.0315)


def orthogonal(stack: Tensor) -> Tensor:
    """The nearest orthogonal matrices, roughly; each matrix no taller than wide."""
    a, b, c = STEPS
    x = stack / (stack.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is made orthogonal."""

    def __init__(self, params: list[nn.Parameter], lr: float, decay: float) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix."""
        for group in self.param_groups:
            stacks: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                held = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                held.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(held, group["momentum"])
                update = update.T if update.shape[0] > update.shape[1] else update
                stacks[tuple(update.shape)].append((weight, update))
            for items in stacks.values():
                ready = orthogonal(torch.stack([update for _, update in items]))
                for (weight, _), update in zip(items, ready, strict=True):
                    rows, columns = weight.shape
                    turned = update.T if rows > columns else update
                    weight.mul_(1 - group["lr"] * group["decay"])
                    weight.add_(turned, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def build(model: nn.Module, rate: float, embed_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding and the norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        Muon(matrices, rate, decay=0.05),
        torch.optim.AdamW(rest, lr=embed_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
