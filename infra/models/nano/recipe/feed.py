"""Generator processes beside the trainer: an accelerator learns faster than one process invents.

Owns the processes and the way from them to the trainer: a pipe each, so that none waits for
another, and a thread that empties them while the trainer is busy. What they invent is `batches`.
Start the trainer with TOKENIZERS_PARALLELISM=false: the processes are the parallel part.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from .batches import Batch, packed, rows, tensors
from .vocabulary import Voice

AHEAD = 16
"""Batches that wait per process."""
RESERVED = 2
"""Cores that the trainer does not share: it launches many small kernels, and waits for none."""
GRAIN = 64
"""Widths of batches of few shapes are multiples of this."""


@dataclass(frozen=True)
class Order:
    """What a process is told to invent."""

    tokenizer: str
    seed: int
    odd: float
    hard: float
    budget: int
    longest: int
    weights: dict[str, int]
    fixed: bool = False
    """Few shapes, for an accelerator."""


def invent(order: Order) -> Iterator[Batch]:
    """Batches without an end."""
    voice = Voice(order.seed, odd=order.odd, hard=order.hard)
    tokenizer = Tokenizer.from_file(order.tokenizer)
    source = rows(tokenizer, voice, order.longest, order.weights)
    if not order.fixed:
        return (tensors(batch) for batch in packed(source, order.budget, voice.rng))
    made = packed(source, order.budget, voice.rng, GRAIN)
    return (tensors(batch, GRAIN, order.budget) for batch in made)


def apart(first: int, last: int) -> None:
    """Keep this process on some of the cores, where there are enough."""
    if (os.cpu_count() or 1) > 2 * RESERVED:
        os.sched_setaffinity(0, range(first, last))


def fill(pipe: Connection, order: Order) -> None:
    """The work of one process, until it is ended."""
    apart(RESERVED, os.cpu_count() or 1)  # the trainer keeps the first ones for itself
    torch.set_num_threads(1)
    for batch in invent(order):
        pipe.send((batch.ids.numpy().astype(np.uint16), batch.at.numpy().astype(np.int32)))


def drain(pipes: list[Connection], out: queue.Queue[Any]) -> None:
    """Move batches from the pipes into memory; an ended process ends it with an error."""
    try:
        while True:
            for pipe in wait(pipes):
                out.put(pipe.recv())  # type: ignore[union-attr]
    except (EOFError, OSError) as error:
        out.put(RuntimeError(f"a process that invents sessions has ended: {error!r}"))


def batches(order: Order, workers: int) -> Iterator[Batch]:
    """Batches of this process, or of as many others as asked for.

    Raises:
        RuntimeError: one of the others has ended.
    """
    if not workers:
        yield from invent(order)
        return
    context = multiprocessing.get_context("spawn")
    pipes = []
    for index in range(workers):
        here, there = context.Pipe(duplex=False)
        mine = replace(order, seed=order.seed * 1009 + index)
        context.Process(target=fill, args=(there, mine), daemon=True).start()
        there.close()
        pipes.append(here)
    ready: queue.Queue[Any] = queue.Queue(AHEAD * workers)
    apart(0, RESERVED)
    threading.Thread(target=drain, args=(pipes, ready), daemon=True).start()
    while True:
        made = ready.get()
        if isinstance(made, RuntimeError):
            raise made
        ids, at = (torch.from_numpy(part.astype(np.int64)) for part in made)
        yield Batch(ids, at)
