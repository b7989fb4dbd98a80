"""Generator processes beside the trainer: an accelerator learns faster than one process invents.

Owns the processes and the queue between them and the trainer. What they invent is `batches`. Start
the trainer with TOKENIZERS_PARALLELISM=false: the processes are the parallel part.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from .batches import Batch, packed, rows, tensors
from .vocabulary import Voice

AHEAD = 4
"""Batches that wait per process."""


@dataclass(frozen=True)
class Order:
    """What a process is told to invent."""

    tokenizer: str
    seed: int
    odd: float
    budget: int
    longest: int
    weights: dict[str, int]


def invent(order: Order) -> Iterator[Batch]:
    """Batches without an end."""
    voice = Voice(order.seed, odd=order.odd)
    tokenizer = Tokenizer.from_file(order.tokenizer)
    source = rows(tokenizer, voice, order.longest, order.weights)
    return (tensors(batch) for batch in packed(source, order.budget, voice.rng))


def fill(queue: multiprocessing.Queue[Any], order: Order) -> None:
    """The work of one process, until it is ended."""
    os.nice(5)  # the trainer itself goes first
    torch.set_num_threads(1)
    for batch in invent(order):
        queue.put((batch.ids.numpy().astype(np.uint16), batch.at.numpy().astype(np.int32)))


def batches(order: Order, workers: int) -> Iterator[Batch]:
    """Batches of this process, or of as many others as asked for."""
    if not workers:
        yield from invent(order)
        return
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[Any] = context.Queue(AHEAD * workers)
    for index in range(workers):
        mine = Order(**{**vars(order), "seed": order.seed * 1009 + index})
        context.Process(target=fill, args=(queue, mine), daemon=True).start()
    while True:
        ids, at = queue.get()
        yield Batch(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(at.astype(np.int64)))
