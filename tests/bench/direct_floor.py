"""The floors of a stateless completion: `python -m tests.bench.direct_floor ROLE [PORT]`.

`constant` is the HTTP server alone with an ASGI application that answers a constant: what the
socket, the parser and the load generator cost. `chain` answers over the same three hops as the
product (ingress, router, worker on the broker, one fact fsynced per answer) with nothing in them.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
import uvicorn
import uvloop
from nats.aio.msg import Msg

from shared.bus.connect import Bus, open_bus
from shared.settings import BusSettings
from shared.telemetry import configure

TOKENS = 64
_FRAME: dict[str, object] = {"id": "chatcmpl-0", "created": 1_700_000_000, "model": "default"}
_WHOLE = orjson.dumps(
    _FRAME
    | {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello there " * 10, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
)
_JSON = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(_WHOLE)))
_SSE = ((b"content-type", b"text/event-stream"),)
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


def _chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return orjson.dumps(_FRAME | {"object": "chat.completion.chunk", "choices": [choice]})


_CHUNKS = [_chunk(f"tok{place} ") for place in range(TOKENS)]


async def _body(receive: Receive) -> bytes:
    message = await receive()
    return bytes(message["body"])


async def _whole(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _JSON})
    await send({"type": "http.response.body", "body": body})


async def _piece(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": b"data: %s\n\n" % data, "more_body": True})


async def _begin(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _SSE})


async def _end(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def constant(scope: Event, receive: Receive, send: Send) -> None:
    """Answers what it is told to have said."""
    if b'"stream":true' not in await _body(receive):
        await _whole(send, _WHOLE)
        return
    await _begin(send)
    for chunk in _CHUNKS:
        await _piece(send, chunk)
    await _end(send)


class Front:
    """Asks the chain and passes on what comes."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._inbox = bus.nc.new_inbox() + "."
        self._waiting: dict[str, asyncio.Queue[bytes]] = {}
        self._numbers = itertools.count()

    async def start(self) -> None:
        """One inbox for all."""
        await self._bus.nc.subscribe(self._inbox + "*", cb=self._on, pending_bytes_limit=0)

    async def _on(self, message: Msg) -> None:
        self._waiting[message.subject[len(self._inbox) :]].put_nowait(message.data)

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """ASGI."""
        body = await _body(receive)
        key = str(next(self._numbers))
        events = self._waiting[key] = asyncio.Queue()
        await self._bus.nc.publish("bare.route", body, reply=self._inbox + key)
        if b'"stream":true' not in body:
            await _whole(send, await events.get())
        else:
            await _begin(send)
            while (data := await events.get()) != b"[DONE]":
                await _piece(send, data)
            await _end(send)
        del self._waiting[key]


async def _listen(app: Any, port: str) -> None:
    config = uvicorn.Config(
        app, port=int(port), http="httptools", ws="none", lifespan="off", log_level="critical"
    )
    await uvicorn.Server(config).serve()


async def _route(bus: Bus) -> None:
    async def place(message: Msg) -> None:
        orjson.loads(message.data)
        await bus.nc.publish("bare.infer", message.data, reply=message.reply)

    await bus.nc.subscribe("bare.route", cb=place)
    await asyncio.Event().wait()


async def _work(bus: Bus) -> None:
    running: set[asyncio.Task[None]] = set()

    async def answer(message: Msg) -> None:
        if orjson.loads(message.data).get("stream"):
            for chunk in _CHUNKS:
                await bus.nc.publish(message.reply, chunk)
            await bus.nc.publish(message.reply, b"[DONE]")
        else:
            await bus.nc.publish(message.reply, _WHOLE)
        await bus.publish("floor.direct.usage", b"{}")

    async def receive(message: Msg) -> None:
        task = asyncio.create_task(answer(message))
        running.add(task)
        task.add_done_callback(running.discard)

    await bus.nc.subscribe("bare.infer", cb=receive)
    await asyncio.Event().wait()


async def main(role: str, *port: str) -> None:
    """Serve until killed."""
    if role == "constant":
        await _listen(constant, *port)
        return
    async with open_bus(BusSettings().address(), role, configure("floor", "critical")) as bus:
        if role == "router":
            await _route(bus)
        elif role == "worker":
            await _work(bus)
        else:
            front = Front(bus)
            await front.start()
            await _listen(front, *port)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
