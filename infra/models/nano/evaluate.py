"""Evaluation of a model folder, on generated sessions and on two lists of hand-written tasks.

Owns the torch engine that loads the exported weights and the report. The judging itself is in
`recipe/judge.py` and works with any engine.
What searches return is ranked and marked by the repository's own tool, which runs beside it.
Usage: python evaluate.py FOLDER [--sessions 1000] [--seed 990017] [--show 10] [--processes 2]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from recipe.conversation import session
from recipe.export import shape_of
from recipe.judge import Complete, Verdict, judge_generated, judge_written
from recipe.model import Decoder
from recipe.tokenizer import END, END_OF_TEXT
from recipe.vocabulary import Voice
from safetensors.torch import load_file
from searching import ROOT, Searching
from tokenizers import Tokenizer

LISTS = {"hand-written": "phrasings.json", "strangers": "strangers.json"}
"""The first was looked at while the generator was made; the second never was."""


def load(folder: Path) -> tuple[Decoder, Tokenizer]:
    """The exported model, in single precision."""
    config = json.loads((folder / "config.json").read_text())
    model = Decoder(shape_of(config))
    weights = {name: w.float() for name, w in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(weights, strict=False)
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def engine(folder: Path) -> Complete:
    """Greedy completion of a prompt."""
    model, tokenizer = load(folder)

    def complete(prompt: str) -> str:
        ids = tokenizer.encode(prompt).ids
        out = model.greedy(ids, {END, END_OF_TEXT})
        return tokenizer.decode(out, skip_special_tokens=False)

    return complete


def table(title: str, verdicts: list[Verdict]) -> str:
    """Right calls and wholly right tasks per kind."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.kind].append(verdict)
    rows = [f"| {title} | tasks | right calls | all right |", "|---|---|---|---|"]
    for name, group in [*sorted(groups.items()), ("all", verdicts)]:
        calls = sum(v.calls_right for v in group)
        right = sum(v.right for v in group)
        share = 100 * right / len(group)
        rows.append(f"| {name} | {len(group)} | {calls} | {right} ({share:.1f} %) |")
    return "\n".join(rows)


def generated(folder: Path, count: int, seed: int, python: str) -> list[Verdict]:
    """Verdicts on generated sessions whose vocabulary is partly new to the model."""
    torch.set_num_threads(1)
    complete = engine(folder)
    with Searching(python) as tool:
        voice = Voice(seed, held=True, finder=tool.finder)
        return [judge_generated(session(voice), complete) for _ in range(count)]


def spread(given: argparse.Namespace) -> list[Verdict]:
    """The same in several processes, each with its own seed."""
    processes = given.processes
    count = given.sessions // processes
    jobs = [(given.folder, count, given.seed + n, given.python) for n in range(processes)]
    if processes == 1:
        return generated(*jobs[0])
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return [verdict for part in pool.starmap(generated, jobs) for verdict in part]


def written(complete: Complete, name: str, python: str) -> list[Verdict]:
    """Verdicts on a list of hand-written tasks."""
    tasks = json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
    with Searching(python) as tool:
        return [judge_written(task, complete, tool.again) for task in tasks]


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print both tables and some of the failures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=990017)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--python", default=str(ROOT / ".venv/bin/python"), help="the repository's")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    complete = engine(given.folder)
    lists = {title: written(complete, name, given.python) for title, name in LISTS.items()}
    made = spread(given)
    for title, verdicts in (lists | {"generated": made}).items():
        for verdict in [v for v in verdicts if not v.right][: given.show]:
            say("\n  ".join([f"[{verdict.kind}]", *verdict.notes]))
        say(table(title, verdicts))
    say(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
