"""The product's worker on the small model, which also runs its engine alone when asked to.

`python -m tests.bench.engine_worker`. Both ways share one process and one engine, so the difference
between them is what stands in front of the engine and nothing else. The model's end token is put
out of its reach: every answer is as long as it was asked to be.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing
from pathlib import Path
from statistics import median

import orjson
from nats.aio.msg import Msg

from services.inference.__main__ import serve
from services.inference.adapters.openvino.factory import build_chat
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.handlers import EngineChat
from services.inference.ports import GenerateRequest, Sampling
from services.inference.settings import Settings
from shared.bus.connect import Bus
from shared.bus.service import run_service
from shared.clock import monotonic
from shared.models import OpenVinoModel
from tests.bench.system import ROOT

SLOTS, CONTEXT = 16, 4096
NEVER = 1
"""A control token that the model does not say."""
_TICK = 0.001
_names = iter(range(1 << 30))


def endless(folder: Path) -> Path:
    """The small model, with another end token."""
    copy = folder / "endless"
    if not copy.exists():
        shutil.copytree(ROOT / "infra" / "models" / "nano", copy)
        (copy / "generation_config.json").write_bytes(orjson.dumps({"eos_token_id": [NEVER]}))
    return copy


class Alone:
    """The engine without anything in front of it; answers `bench.<what>`."""

    def __init__(self, bus: Bus, chat: EngineChat) -> None:
        self._bus, self._chat = bus, chat
        self._late: list[float] = []
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._bus.nc.subscribe("bench.*", cb=self._on_request)

    async def _on_request(self, message: Msg) -> None:
        what = message.subject.split(".")[1]
        found = await getattr(self, what)(**orjson.loads(message.data or b"{}"))
        await message.respond(orjson.dumps(found))

    def _ask(self, text: str, tokens: int) -> GenerateRequest:
        talk = [{"role": "user", "content": text}]
        return GenerateRequest(
            request_id=f"alone-{next(_names)}",
            prompt=self._chat.tokenizer.encode(self._chat.template.render(talk), "default"),
            max_tokens=tokens,
            sampling=Sampling(temperature=0),
            stop_token_ids=self._chat.tokenizer.eos_ids,
            cache_salt="default",
        )

    async def _run(self, text: str, tokens: int) -> tuple[int, float]:
        """Tokens, and milliseconds to the first of them."""
        begun, first, said = monotonic(), 0.0, 0
        async with aclosing(self._chat.engine.generate(self._ask(text, tokens))) as chunks:
            async for chunk in chunks:
                first = first or monotonic() - begun
                said += len(chunk.token_ids)
        return said, first * 1e3

    async def answers(self, texts: list[str], tokens: int) -> dict[str, float]:
        """All of them at once."""
        begun = monotonic()
        ran = await asyncio.gather(*(self._run(text, tokens) for text in texts))
        seconds = monotonic() - begun
        return {"tokens": sum(said for said, _ in ran), "seconds": seconds, "first_ms": ran[0][1]}

    async def cancelled(self, texts: list[str]) -> dict[str, float]:
        """Milliseconds from the abort of one of them until its slot is free."""
        engine, took = self._chat.engine, []
        others = [asyncio.create_task(self._run(text, 512)) for text in texts[1:]]
        for _ in range(8):
            request = self._ask(texts[0], 512)
            async with aclosing(engine.generate(request)) as chunks:
                await anext(chunks)
                begun = monotonic()
                await engine.abort(request.request_id)
                async for chunk in chunks:
                    if chunk.finished is not None:
                        took.append(monotonic() - begun)
        await asyncio.gather(*others)
        return {"median_ms": median(took) * 1e3, "most_ms": max(took) * 1e3}

    async def idle(self) -> dict[str, float]:
        """Answers once nothing runs."""
        while self._chat.stats().running:  # noqa: ASYNC110 - statistics give no event
            await asyncio.sleep(_TICK)
        return {}

    async def watch(self) -> dict[str, float]:
        """Begin to measure how late the event loop is."""
        self._late.clear()
        self._ticking = asyncio.create_task(self._tick())
        return {}

    async def lag(self) -> dict[str, float]:
        """Milliseconds by which it was late since `watch`."""
        if self._ticking is not None:
            self._ticking.cancel()
        late = sorted(self._late)
        return {
            "p50_ms": late[len(late) // 2] * 1e3,
            "p99_ms": late[len(late) * 99 // 100] * 1e3,
            "most_ms": late[-1] * 1e3,
        }

    async def _tick(self) -> None:
        while True:
            before = monotonic()
            await asyncio.sleep(_TICK)
            self._late.append(monotonic() - before - _TICK)


def main() -> None:
    settings = Settings()

    async def compose(bus: Bus, stop: asyncio.Event) -> None:
        folder = endless(settings.data)
        row = OpenVinoModel(path=str(folder), context=CONTEXT, concurrency=SLOTS)
        chat = build_chat(folder, EngineOptions(max_sequences=SLOTS), CONTEXT)
        await Alone(bus, chat).start()
        await serve(bus, stop, settings, row, chat)

    run_service("inference", settings, compose)


if __name__ == "__main__":
    main()
