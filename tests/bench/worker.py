"""An inference worker whose model says at once what it is told: `python -m tests.bench.worker`.

"steps N" asks for N sums one after the other, then answers; "say N" answers with N tokens.
Everything around the engine is the product's own. An answer is one token where nobody asks for
more, so that the engine's share is as small as it can be. With `--every-token` the clock that
gathers tokens runs so fast that each of them is a delta of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Sequence

from services.inference.core.chat import ChatTemplate, Segment
from services.inference.core.pieces import WINDOW
from services.inference.handlers import EngineChat, Model
from services.inference.ports import GenerateRequest
from services.inference.settings import Settings
from shared import clock
from shared.bus.connect import Bus
from shared.bus.service import run_service, running
from tests.fakes.instant_engine import InstantEngine, InstantOptions
from tests.fakes.scripted_model import CONTEXT, TEMPLATE
from tests.integration.running_loop import worker_parts

END = 0
CALL = (
    '<tool_call>\n{{"name": "calculator", "arguments": {{"expression": "1 + {n}"}}}}\n</tool_call>'
)


class WholeTokenizer:
    """A token is a whole text: the n-th one that was met has the id n."""

    eos_ids = frozenset({END})
    control: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._texts = [b""]

    def id_of(self, text: str) -> int:
        if text not in self._ids:
            self._ids[text] = len(self._texts)
            self._texts.append(text.encode())
        return self._ids[text]

    def text(self, token_id: int) -> str:
        return self._texts[token_id].decode()

    def encode(self, prompt: Sequence[Segment], salt: str = "") -> tuple[int, ...]:
        return (self.id_of("".join(segment.text for segment in prompt)),)

    def decode(self, token_id: int) -> bytes:
        return self._texts[token_id]

    def label(self, token_id: int) -> str:
        return self.text(token_id)


def instant_model(name: str, worker: str) -> Model:
    tokenizer = WholeTokenizer()

    def said(prompt: str) -> Sequence[int]:
        count = int(prompt.rpartition("user: say ")[2])
        if count == 1:
            return [tokenizer.id_of("hello there " * 10), END]
        return [*(tokenizer.id_of(f"tok{place} ") for place in range(count)), END]

    def script(request: GenerateRequest) -> Sequence[int]:
        _, steps, turn = tokenizer.text(request.prompt[0]).rpartition("user: steps ")
        if not steps:
            return said(tokenizer.text(request.prompt[0]))
        order, *lines = turn.splitlines()
        done = sum(line.startswith("tool: ") for line in lines)
        answer = CALL.format(n=done) if done < int(order) else f"{done} sums"
        return [tokenizer.id_of(answer), END]

    options = InstantOptions(context_tokens=CONTEXT, max_sequences=256, vocabulary=1 << 30)
    engine = InstantEngine(script, options)
    chat = EngineChat(engine, tokenizer, ChatTemplate(TEMPLATE, ()), CONTEXT)
    return Model(name, worker, chat, slots=256)


def hurried() -> Callable[[], float]:
    """A clock on which no two readings are within the window that gathers tokens."""
    readings = itertools.count()
    return lambda: next(readings) * WINDOW * 2


def main() -> None:
    settings = Settings()
    ticks = hurried() if "--every-token" in sys.argv else clock.monotonic

    async def compose(bus: Bus, stop: asyncio.Event) -> None:
        model = instant_model(settings.model, settings.worker)
        await model.chat.start()
        async with running(bus, *worker_parts(bus, model, ticks)):
            await stop.wait()

    run_service("inference", settings, compose)


if __name__ == "__main__":
    main()
