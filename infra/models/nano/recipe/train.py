"""Training: endless generated sessions, loss on the assistant's tokens only.

Owns the schedule, checkpoints (weights, optimizer, averaged weights, counters) and resuming.
Usage: python -m recipe.train FOLDER... --minutes 80 [--threads 2]; run it again after an
interruption and it goes on from the last checkpoint. Models in several folders learn from the
same batches, which is how sizes are compared where inventing takes longer than learning.
"""

from __future__ import annotations

import argparse
import math
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from . import circuit, optimizer
from .batches import Batch, drill, tensors
from .conversation import FOCUS, STEPS, WEIGHTS
from .feed import Order, batches
from .model import Decoder, Shape
from .pair import Pair

Forward = Callable[[Tensor], Tensor]
ODD = 0.3
"""The share of practice words in training; there are none in the evaluation."""
FOCI = {"": (WEIGHTS, 0.0), "late": (FOCUS, 0.0), "steps": (STEPS, 0.9)}
"""The share of each kind of task, and of numbers that stand beside others."""
IGNORED = -100
COUNTERS = ("step", "tokens", "targets", "seconds", "loss", "drill_loss", "level")


@dataclass(frozen=True)
class Plan:
    """What a run is told."""

    folders: list[Path]
    until: float
    threads: int
    device: str = "cpu"
    workers: int = 0
    rank: int = 0
    world: int = 1
    meet: Path | None = None
    budget: int = 3584
    longest: int = 640
    rate: float = 0.006
    embed_rate: float = 1.5e-3
    save_every: float = 150.0
    compiled: bool = True
    focus: str = ""
    fall: float = 0.45


class Run:
    """One training run with everything that a checkpoint holds."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.path = folder / "checkpoint.pt"
        saved = torch.load(self.path, weights_only=True) if self.path.exists() else None
        vocab = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
        torch.manual_seed(0)
        self.model = Decoder(Shape(**saved["shape"]) if saved else Shape(vocab=vocab))
        circuit.install(self.model)
        self.model.to(plan.device)
        self.average = {k: v.detach().clone() for k, v in self.model.named_parameters()}
        self.optimizers = optimizer.build(self.model, plan.rate, plan.embed_rate)
        self.step, self.tokens, self.targets, self.seconds = 0, 0, 0, 0.0
        self.fresh = 0
        """The step at which the optimizers began; they need a few to find their measure."""
        self.loss, self.drill_loss, self.level = math.nan, 8.0, 0.0
        self.recent: list[Tensor] = []
        self.forward = forward_of(self)
        if saved:
            self.restore(saved)

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on where a checkpoint ended."""
        self.model.load_state_dict(saved["model"], strict=False)
        for name, weight in self.average.items():
            weight.copy_(saved["average"][name])
        for one, state in zip(self.optimizers, saved.get("optimizers", ()), strict=False):
            one.load_state_dict(state)
        for name in COUNTERS:
            setattr(self, name, saved.get(name, getattr(self, name)))
        self.fresh = 0 if "optimizers" in saved else self.step

    def save(self) -> None:
        """Write a checkpoint whole, then put it in place; the first trainer does."""
        if self.plan.rank:
            return
        self.settle()
        saved = {
            "shape": self.model.shape.as_dict(),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizers": [one.state_dict() for one in self.optimizers],
            **{name: getattr(self, name) for name in COUNTERS},
        }
        torch.save(saved, self.path.with_suffix(".new"))
        self.path.with_suffix(".new").rename(self.path)

    def factor(self, remaining: float) -> float:
        """Warm up over 100 steps, hold, then fall linearly over the last part of the time."""
        share = remaining / max(remaining + self.seconds, 1.0)
        warm = min(1.0, (self.step - self.fresh + 1) / 100)
        return warm * max(0.01, min(1.0, share / self.plan.fall))

    def set_rates(self, factor: float) -> None:
        """Scale the learning rates."""
        rates = (self.plan.rate, self.plan.embed_rate)
        for one, rate in zip(self.optimizers, rates, strict=True):
            for group in one.param_groups:
                group["lr"] = rate * factor

    def learn(self, batch: Batch, pair: Pair, factor: float, stop: bool) -> bool:
        """One step; false when it is time to stop."""
        states = self.forward(batch.ids).flatten(0, 1)[batch.at.clamp(min=0)]
        targets = batch.ids.flatten()[batch.at + 1].where(batch.at >= 0, IGNORED)
        loss = F.cross_entropy(self.model.logits(states), targets, ignore_index=IGNORED)
        loss.backward()
        factor, stop = pair.average(self.model, factor, stop)
        self.set_rates(factor)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for one in self.optimizers:
            one.step()
        self.model.zero_grad(set_to_none=True)
        keep = min(0.99, 1 - 1 / (self.step + 10))
        weights = [weight.detach() for weight in self.model.parameters()]
        torch._foreach_lerp_(list(self.average.values()), weights, 1 - keep)
        self.step += 1
        self.recent.append(loss.detach())
        return not stop

    def count(self, seen: tuple[int, int], seconds: float, drilled: bool) -> None:
        """Take a step into the counters; exercises become harder when their loss is low."""
        self.tokens += seen[0] * self.plan.world
        self.targets += seen[1] * self.plan.world
        self.seconds += seconds
        if drilled:
            self.drill_loss = 0.9 * self.drill_loss + 0.1 * self.recent.pop().item()
            if self.drill_loss < 1.0:
                self.level = min(1.0, self.level + 0.02)
        if self.step % 25 == 0:
            self.settle()
            say(f"{self.path.parent.name} {self.step} {self.seconds:.0f} s "
                f"{self.tokens / 1e6:.2f} M tokens loss {self.loss:.4f} drill "
                f"{self.drill_loss:.3f} level {self.level:.2f}")  # fmt: skip

    def settle(self) -> None:
        """Take in the losses since the last time: asking for each would hold an accelerator up."""
        for value in torch.stack(self.recent).tolist() if self.recent else ():
            self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        self.recent = []


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def forward_of(run: Run) -> Forward:
    """The forward pass up to the last states: products in bfloat16, sums and the head in single.

    On cores with bfloat16 products (AVX-512 BF16, AMX) a step takes 0.6 of the time.
    """

    def forward(ids: Tensor) -> Tensor:
        with torch.autocast(run.plan.device, dtype=torch.bfloat16):
            return run.model.hidden(ids)[0].float()

    return torch.compile(forward, dynamic=True) if run.plan.compiled else forward


def lessons(plan: Plan, lead: Run) -> Iterator[tuple[Batch, bool]]:
    """What comes next for all runs, and whether it is a copying exercise."""
    seed = 1000 + 7 * lead.step + plan.rank
    rng = random.Random(seed)
    weights, hard = FOCI[plan.focus]
    order = Order(
        str(lead.path.with_name("tokenizer.json")), seed, ODD, hard, plan.budget, plan.longest,
        weights, fixed=plan.device != "cpu",
    )  # fmt: skip
    source = batches(order, plan.workers)
    while True:
        dice = random.Random(lead.step).random()  # all trainers drill at the same time
        if dice < (0.04 if lead.level >= 1.0 else 0.2):
            count = max(32, plan.budget // 448)
            vocab = lead.model.shape.vocab
            grain = 256 if order.fixed else 16
            yield tensors([drill(rng, vocab, lead.level) for _ in range(count)], grain), True
        else:
            yield next(source), False


def loop(plan: Plan, runs: list[Run]) -> None:
    """Train until the time is up."""
    asked: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    pair = Pair(plan.rank, plan.world, plan.meet)
    last = saved = time.monotonic()
    for batch, drills in lessons(plan, runs[0]):
        remaining = plan.until - last
        stop = bool(asked) or remaining <= 0
        seen, there = batch.counted(), batch.to(plan.device)
        going = [run.learn(there, pair, run.factor(remaining), stop) for run in runs]
        now = time.monotonic()
        for run in runs:
            run.count(seen, now - last, drills)
        last = now
        if now - saved > plan.save_every or not all(going):
            for run in runs:
                run.save()
            saved = now
        if not all(going):
            return


def plan_from(arguments: list[str] | None = None) -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, required=True, help="from now")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--world", type=int, default=1)
    parser.add_argument("--meet", type=Path, help="a new file where several trainers meet")
    parser.add_argument("--device", default="cpu", help="cuda: see --workers and --budget")
    parser.add_argument("--workers", type=int, default=0, help="processes that invent sessions")
    parser.add_argument("--budget", type=int, default=Plan.budget, help="tokens of a batch")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--focus", choices=list(FOCI), default="", help="what comes more often")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="of the matrices")
    parser.add_argument("--fall", type=float, default=Plan.fall, help="share of the time it falls")
    given = parser.parse_args(arguments)
    end = time.monotonic() + 60 * given.minutes
    return Plan(
        given.folders, end, given.threads, given.device, given.workers, given.rank, given.world,
        given.meet, given.budget, rate=given.rate, embed_rate=given.rate / 4,
        compiled=not given.eager, focus=given.focus, fall=given.fall,
    )  # fmt: skip


def main() -> None:
    """Train or go on training."""
    plan = plan_from()
    torch.set_num_threads(plan.threads)
    torch.set_float32_matmul_precision("high")
    runs = [Run(plan, folder) for folder in plan.folders]
    for run in runs:
        size = sum(p.numel() for p in run.model.parameters())
        say(f"{run.path.parent.name}: {size / 1e6:.2f} M parameters, from step {run.step}")
    loop(plan, runs)


if __name__ == "__main__":
    main()
