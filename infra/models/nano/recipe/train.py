"""Training: endless generated sessions, loss on the assistant's tokens only.

Owns batching, the schedule, checkpoints (weights, optimizer, averaged weights, counters) and
resuming. Usage: python -m recipe.train FOLDER --minutes 80 [--threads 2]; run it again after
an interruption and it goes on from the last checkpoint.
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
from .conversation import FOCUS, WEIGHTS, session
from .model import Decoder, Shape
from .pair import Pair
from .tokenizer import encode
from .vocabulary import Voice

Forward = Callable[[Tensor], Tensor]
Row = tuple[list[int], list[bool]]
ODD = 0.1
"""The share of practice words in training; there are none in the evaluation."""
COUNTERS = ("step", "tokens", "targets", "seconds", "loss", "drill_loss", "level")


@dataclass(frozen=True)
class Plan:
    """What a run is told."""

    folder: Path
    until: float
    threads: int
    rank: int = 0
    world: int = 1
    meet: Path | None = None
    budget: int = 3584
    longest: int = 640
    rate: float = 0.006
    embed_rate: float = 1.5e-3
    save_every: float = 150.0
    compiled: bool = True
    focus: bool = False
    fall: float = 0.45


def drill(rng: random.Random, vocab: int, level: float) -> Row:
    """Copying exercises with random tokens: repeat a sequence, or look up a line by its key.

    `level` from 0 to 1 makes them longer: short ones teach where to look, long ones precision.
    """

    def some(low: int, high: int) -> list[int]:
        return [rng.randrange(7, vocab) for _ in range(rng.randint(low, high))]

    if rng.random() < 0.5:
        body = some(3, 6 + int(44 * level))
        ids = [0, *body, 0]
        done = len(ids)
        while len(ids) < done + 24:
            ids += [*body[rng.randrange(0, 1 + len(body) // 3) :], 0]
        return ids, [index > done for index in range(len(ids))]
    count = rng.randint(2, 3 + int(6 * level))
    lines = [(some(1, 2), some(1, 3 + int(6 * level))) for _ in range(count)]
    ids = [0]
    for key, value in lines:
        ids += [*key, 3, *value, 4]
    wanted = [False] * len(ids)
    for key, value in rng.choices(lines, k=4):
        ids += [*key, 3, *value, 4]
        wanted += [False] * (len(key) + 1) + [True] * (len(value) + 1)
    return ids, wanted


def rows(
    tokenizer: Tokenizer, voice: Voice, longest: int, weights: dict[str, int] = WEIGHTS
) -> Iterator[Row]:
    """Sessions as rows; one in thirty may be far longer than the rest."""
    while True:
        long = voice.chance(0.03)
        count = voice.rng.randint(5, 8) if long else None
        row = encode(tokenizer, session(voice, count, weights))
        if len(row[0]) <= (1800 if long else longest):
            yield row


def packed(source: Iterator[Row], budget: int, rng: random.Random) -> Iterator[list[Row]]:
    """Batches of similar lengths within a token budget."""
    while True:
        pool = sorted((next(source) for _ in range(320)), key=lambda row: len(row[0]))
        batches: list[list[Row]] = [[]]
        for row in pool:
            if batches[-1] and (len(batches[-1]) + 1) * len(row[0]) > budget:
                batches.append([])
            batches[-1].append(row)
        rng.shuffle(batches)
        yield from batches


def tensors(batch: list[Row]) -> tuple[Tensor, Tensor]:
    """Ids padded on the right, and the mask of targets."""
    width = -(-max(len(ids) for ids, _ in batch) // 16) * 16
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    wanted = torch.zeros(len(batch), width, dtype=torch.bool)
    for index, (row, mask) in enumerate(batch):
        ids[index, : len(row)] = torch.tensor(row)
        wanted[index, : len(row)] = torch.tensor(mask)
    return ids, wanted


class Run:
    """One training run with everything that a checkpoint holds."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tokenizer = Tokenizer.from_file(str(plan.folder / "tokenizer.json"))
        torch.manual_seed(0)
        self.model = Decoder(Shape(vocab=self.tokenizer.get_vocab_size()))
        circuit.install(self.model)
        self.average = {k: v.detach().clone() for k, v in self.model.named_parameters()}
        self.optimizers = optimizer.build(self.model, plan.rate, plan.embed_rate)
        self.step, self.tokens, self.targets, self.seconds = 0, 0, 0, 0.0
        self.loss, self.drill_loss, self.level = math.nan, 8.0, 0.0
        self.pair = Pair(plan.rank, plan.world, plan.meet)
        self.asked = False
        signal.signal(signal.SIGTERM, self.ask)
        self.path = plan.folder / "checkpoint.pt"
        if self.path.exists():
            self.restore(torch.load(self.path, weights_only=True))

    def ask(self, *_: object) -> None:
        """Stop after the current step."""
        self.asked = True

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on where a checkpoint ended."""
        self.model.load_state_dict(saved["model"], strict=False)
        self.average = saved["average"]
        for one, state in zip(self.optimizers, saved["optimizers"], strict=True):
            one.load_state_dict(state)
        for name in COUNTERS:
            setattr(self, name, saved.get(name, getattr(self, name)))

    def save(self) -> None:
        """Write a checkpoint whole, then put it in place; the first trainer does."""
        if self.plan.rank:
            return
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
        return min(1.0, (self.step + 1) / 100) * max(0.01, min(1.0, share / self.plan.fall))

    def set_rates(self, factor: float) -> None:
        """Scale the learning rates."""
        rates = (self.plan.rate, self.plan.embed_rate)
        for one, rate in zip(self.optimizers, rates, strict=True):
            for group in one.param_groups:
                group["lr"] = rate * factor

    def learn(self, forward: Forward, batch: list[Row], drilled: bool, remaining: float) -> bool:
        """One step; false when it is time to stop."""
        ids, wanted = tensors(batch)
        states = forward(ids)
        pick = wanted[:, 1:]
        loss = F.cross_entropy(self.model.logits(states[:, :-1][pick]), ids[:, 1:][pick])
        loss.backward()
        factor, stop = self.pair.average(
            self.model, self.factor(remaining), self.asked or remaining <= 0
        )
        self.set_rates(factor)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for one in self.optimizers:
            one.step()
        self.model.zero_grad(set_to_none=True)
        keep = min(0.99, 1 - 1 / (self.step + 10))
        for name, weight in self.model.named_parameters():
            self.average[name].lerp_(weight.detach(), 1 - keep)
        self.step += 1
        self.tokens += int((ids != 0).sum()) * self.plan.world
        self.targets += int(pick.sum()) * self.plan.world
        value = loss.item()
        if drilled:
            self.drill_loss = 0.9 * self.drill_loss + 0.1 * value
            if self.drill_loss < 1.0:
                self.level = min(1.0, self.level + 0.02)
        else:
            self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        return not stop


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def forward_of(run: Run) -> Forward:
    """The forward pass up to the last states: products in bfloat16, sums and the head in single.

    On cores with bfloat16 products (AVX-512 BF16, AMX) a step takes 0.6 of the time.
    """

    def forward(ids: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return run.model.hidden(ids)[0].float()

    return torch.compile(forward, dynamic=True) if run.plan.compiled else forward


def loop(run: Run) -> None:
    """Train until the time is up."""
    plan = run.plan
    voice = Voice(1000 + 7 * run.step + plan.rank, odd=ODD)
    source = rows(run.tokenizer, voice, plan.longest, FOCUS if plan.focus else WEIGHTS)
    batches = packed(source, plan.budget, voice.rng)
    forward = forward_of(run)
    last = saved = time.monotonic()
    vocab = run.model.shape.vocab
    going = True
    while going:
        dice = random.Random(run.step).random()  # all trainers drill at the same time
        drilled = dice < (0.04 if run.level >= 1.0 else 0.2)
        batch = (
            [drill(voice.rng, vocab, run.level) for _ in range(32)] if drilled else next(batches)
        )
        going = run.learn(forward, batch, drilled, plan.until - last)
        now = time.monotonic()
        run.seconds += now - last
        last = now
        if run.step % 25 == 0:
            say(f"{run.step} {run.seconds:.0f} s {run.tokens / 1e6:.2f} M tokens "
                f"{run.tokens / run.seconds:.0f}/s loss {run.loss:.4f} drill "
                f"{run.drill_loss:.3f} level {run.level:.2f}")  # fmt: skip
        if now - saved > plan.save_every:
            run.save()
            saved = now
    run.save()


def plan_from(arguments: list[str] | None = None) -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, required=True, help="from now")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--world", type=int, default=1)
    parser.add_argument("--meet", type=Path, help="a new file where several trainers meet")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--focus", action="store_true", help="more of what is learnt last")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="of the matrices")
    parser.add_argument("--fall", type=float, default=Plan.fall, help="share of the time it falls")
    given = parser.parse_args(arguments)
    end = time.monotonic() + 60 * given.minutes
    return Plan(
        given.folder, end, given.threads, given.rank, given.world, given.meet,
        rate=given.rate, embed_rate=given.rate / 4, compiled=not given.eager, focus=given.focus,
        fall=given.fall,
    )  # fmt: skip


def main() -> None:
    """Train or go on training."""
    plan = plan_from()
    torch.set_num_threads(plan.threads)
    run = Run(plan)
    size = sum(p.numel() for p in run.model.parameters())
    say(f"{size / 1e6:.2f} M parameters, from step {run.step}")
    loop(run)


if __name__ == "__main__":
    main()
