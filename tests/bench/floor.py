"""The floor: the same hops with nothing in them, as `python -m tests.bench.floor ROLE`.

Four processes with a connection each (sessions, router, worker, tools) pass a task along: the same
streams, the same fsync, the same number of messages; no state, no typed messages, no log reads, no
headers beside the message id. What the product takes beyond this is its own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import orjson
import uvloop
from nats.aio.msg import Msg

from shared.bus.connect import Bus, open_bus
from shared.bus.pull import Pull
from shared.contracts.log import MSG_ID
from shared.settings import BusSettings
from shared.subjects import Consumer, Stream
from shared.telemetry import configure

FACTS = Stream("FLOOR", ("floor.>",))
WORK = Stream("FLOORWORK", ("floorwork.>",), storage="memory", retention="workqueue")
FILTERS = {
    "sessions": Consumer("floor-sessions", "FLOOR", ("floor.>",), memory=True),
    "router": Consumer("floor-router", "FLOORWORK", ("floorwork.route",), memory=True),
    "worker": Consumer("floor-worker", "FLOORWORK", ("floorwork.infer",), memory=True),
    "tools": Consumer("floor-tools", "FLOORWORK", ("floorwork.tool",), memory=True),
}
PAD = "x" * 180
Publish = Callable[[str, dict[str, object], str], Awaitable[None]]


async def _sessions(message: Msg, publish: Publish) -> None:
    _, session, kind = message.subject.split(".")
    if kind == "done":
        return
    body = orjson.loads(message.data)
    step = body["step"] + 1
    if step >= body["steps"]:
        await publish(f"floor.{session}.done", {}, f"{session}.done")
        return
    order = {"session": session, "step": step, "steps": body["steps"], "tail": PAD}
    await publish(f"floorwork.{'tool' if step % 2 else 'route'}", order, f"{session}.w.{step}")


async def _router(message: Msg, publish: Publish) -> None:
    body = orjson.loads(message.data)
    await publish("floorwork.infer", body, f"{body['session']}.i.{body['step']}")


async def _executor(message: Msg, publish: Publish) -> None:
    body = orjson.loads(message.data)
    session = body["session"]
    await publish(f"floor.{session}.result", body, f"{session}.{body['step']}")


ROLES = {"sessions": _sessions, "router": _router, "worker": _executor, "tools": _executor}


async def serve(role: str) -> None:
    """Pass messages along until killed."""
    async with open_bus(BusSettings().address(), role, configure("floor", "critical")) as bus:

        async def publish(subject: str, body: dict[str, object], name: str) -> None:
            await bus.publish(subject, orjson.dumps(body), {MSG_ID: name})

        async def one(message: Msg) -> None:
            await ROLES[role](message, publish)
            await message.ack()

        running: set[asyncio.Task[None]] = set()

        async def receive(message: Msg) -> None:
            task = asyncio.create_task(one(message))
            running.add(task)
            task.add_done_callback(running.discard)

        await Pull(bus, FILTERS[role], receive, _nothing).start()
        await asyncio.Event().wait()


async def _nothing() -> None:
    return


async def submit(bus: Bus, session: str, steps: int) -> None:
    """Start a task of that many steps; it ends with `floor.<session>.done`."""
    await bus.nc.publish(f"floor.{session}.task", orjson.dumps({"step": -1, "steps": steps}))


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
