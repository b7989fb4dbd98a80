"""The scripted model of the suite: what a task asks for, and what the model says to a prompt.

A task's input is one line of JSON: rounds of tool calls, then an answer of so many words. A round
is asked for in one answer, so its calls run in parallel. Each generation carries a nonce: text of
two of them that got mixed is found out.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import msgspec
import orjson

from services.inference.core.chat import ChatTemplate, Segment
from services.inference.handlers import EngineChat, Model
from services.inference.ports import EngineChunk, EngineFailed, EngineInfo, GenerateRequest
from tests.fakes.instant_engine import InstantEngine, InstantOptions

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
CONTEXT, SLOTS, END = 1 << 20, 32, 0
_PIECE = 8


class Order(msgspec.Struct, frozen=True):
    """What a task asks for. `mark` is told to nobody but the task's own session."""

    mark: str
    rounds: tuple[tuple[str, ...], ...] = ()
    words: int = 20

    @property
    def calls(self) -> list[str]:
        """The tools in the order of their calls."""
        return [name for names in self.rounds for name in names]


def write_order(order: Order) -> str:
    return orjson.dumps(msgspec.to_builtins(order)).decode()


def read_order(text: str) -> Order:
    return msgspec.convert(orjson.loads(text), Order)


def answer(prompt: str, nonce: str) -> str:
    """What the model says. The results that a prompt shows tell which round comes next."""
    _, _, turn = prompt.rpartition("\nuser: ")
    first, *lines = turn.splitlines()
    order = read_order(first)
    results = [line.removeprefix("tool: ") for line in lines if line.startswith("tool: ")]
    ends = [0, *accumulate(len(names) for names in order.rounds)]
    place = ends.index(len(results))
    if place < len(order.rounds):
        calls = "".join(
            _call(name, order.mark, ends[place] + n) for n, name in enumerate(order.rounds[place])
        )
        return f"[{nonce}] round {place} " + "thinking " * (order.words // 4) + calls
    return f"[{nonce}] " + " | ".join(results) + " word" * order.words


def _call(name: str, mark: str, number: int) -> str:
    arguments = orjson.dumps({"mark": mark, "n": number}).decode()
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


class PieceTokenizer:
    """A token is a piece of text; a whole prompt is one, followed by some that say nothing."""

    eos_ids = frozenset({END})
    control: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._ids: dict[str, int] = {"": END}
        self._texts = [b""]

    def id_of(self, text: str) -> int:
        if text not in self._ids:
            self._ids[text] = len(self._texts)
            self._texts.append(text.encode())
        return self._ids[text]

    def text(self, token_id: int) -> str:
        return self._texts[token_id].decode()

    def encode(self, prompt: Sequence[Segment], salt: str = "") -> tuple[int, ...]:
        text = "".join(segment.text for segment in prompt)
        return (self.id_of(text), *([END] * (len(text) // 64)))

    def decode(self, token_id: int) -> bytes:
        return self._texts[token_id]


@dataclass(frozen=True)
class Temper:
    """How a worker's engine behaves: its pace, and the share of generations that fail half-way."""

    seed: int = 0
    seconds_per_token: float = 0.015
    failing: float = 0.03


class MoodyEngine(InstantEngine):
    """An instant engine that fails some generations; which ones follows from the seed."""

    def __init__(self, tokenizer: PieceTokenizer, temper: Temper) -> None:
        def script(request: GenerateRequest) -> Sequence[int]:
            text = answer(tokenizer.text(request.prompt[0]), os.urandom(4).hex())
            parts = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
            return [*(tokenizer.id_of(part) for part in parts), END]

        options = InstantOptions(
            context_tokens=CONTEXT,
            max_sequences=SLOTS,
            vocabulary=1 << 30,
            seconds_per_token=temper.seconds_per_token,
        )
        super().__init__(script, options)
        self._temper = temper

    async def start(self) -> EngineInfo:
        await asyncio.sleep(0.1)  # a model is loaded
        return await super().start()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[EngineChunk]:
        """As the port says; a generation that fails has streamed something before."""
        fails = chance(self._temper.seed, request.request_id) < self._temper.failing
        told = 0
        async for chunk in super().generate(request):
            yield chunk
            told += 1
            if fails and told == 4:
                raise EngineFailed("told to fail")


def chance(seed: int, name: str) -> float:
    """A number from 0 to 1 that follows from the seed and a name."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def chaos_model(name: str, worker: str, temper: Temper) -> Model:
    """A loaded model; its engine must be started."""
    tokenizer = PieceTokenizer()
    engine = MoodyEngine(tokenizer, temper)
    chat = EngineChat(engine, tokenizer, ChatTemplate(TEMPLATE, ()), CONTEXT)
    return Model(name, worker, chat, slots=SLOTS)
