"""A worker under test, `python -m tests.chaos.worker`: the product's own, with a scripted engine.

It writes down each execution, the moment before it could have seen a result in the log, and
whether what the model was shown was balanced.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from services.inference.adapters.bus import Direct, Presence, Tokens, lanes_of
from services.inference.adapters.conversations import LogConversations
from services.inference.adapters.shelf import KvShelf
from services.inference.handlers import Inference
from services.inference.ports import View
from services.inference.settings import Settings
from shared import clock
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.bus.service import run_service, running
from shared.contracts.work import RouteStep
from shared.contracts.workers import WorkerState
from tests.chaos.folding import is_balanced
from tests.chaos.model import CONTEXT, SLOTS, Temper, chaos_model
from tests.chaos.records import EXECUTIONS, Execution, real_now, write_line
from tests.chaos.settings import chaos_seed


@dataclass(frozen=True)
class RecordedConversations:
    """`Conversations` that write down what comes of a look."""

    inner: LogConversations
    path: Path
    worker: str

    async def view(self, route: RouteStep, *, repeated: bool = False) -> View:
        """See the port."""
        asked = real_now()
        view = await self.inner.view(route, repeated=repeated)
        if not view.settled:
            execution = Execution(
                "infer", route.ref.tenant, route.ref.session, route.task, route.step,
                self.worker, asked, real_now(), route.attempt, is_balanced(view.messages),
            )  # fmt: skip
            write_line(self.path, execution)
        return view


def main() -> None:
    settings = Settings()

    async def compose(bus: Bus, stop: asyncio.Event) -> None:
        model = chaos_model(settings.model, settings.worker, Temper(chaos_seed()))
        await model.chat.start()
        state = WorkerState(
            worker=model.worker, model=model.name, engine="scripted", slots=SLOTS, context=CONTEXT
        )
        shelf = KvShelf(bus)
        log = LogConversations(RunLog(bus))
        seen = RecordedConversations(log, settings.data / EXECUTIONS, model.worker)
        inference = Inference(model, seen, shelf, Tokens(bus), clock.now, clock.monotonic)
        lanes = lanes_of(bus, inference, state)
        async with running(
            bus,
            shelf,
            Direct(bus, inference, model.worker),
            *lanes,
            Presence(bus, inference, state, lanes),
        ):
            await stop.wait()

    run_service("inference", settings, compose)


if __name__ == "__main__":
    main()
