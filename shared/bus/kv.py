"""Key-value buckets over direct get: read, write, list, and be told of changes.

Plain requests instead of nats-py's KV object: its watcher holds an ordered consumer, which does
not survive the loss of a bucket in memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson
from nats.aio.msg import Msg

from shared.bus.connect import Bus
from shared.bus.log import Page, parse_time
from shared.bus.repeat import until_acknowledged
from shared.clock import mint_id
from shared.contracts.log import MSG_ID
from shared.errors import Permanent
from shared.subjects import Bucket


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's newest value; `time` is the server's (epoch seconds), 0 for a live notice."""

    key: str
    value: bytes
    revision: int
    time: float
    headers: dict[str, str] = field(default_factory=dict)


class KeyValue:
    """One bucket."""

    def __init__(self, bus: Bus, bucket: Bucket) -> None:
        self._bus = bus
        self._prefix = f"$KV.{bucket.name}."
        self._direct = f"$JS.API.DIRECT.GET.KV_{bucket.name}"

    @classmethod
    def over(cls, bus: Bus, stream: str) -> KeyValue:
        """Any stream that keeps the last message per subject; keys are whole subjects."""
        reader = cls(bus, Bucket(stream))
        reader._prefix = ""
        reader._direct = f"$JS.API.DIRECT.GET.{stream}"
        return reader

    async def put(self, key: str, value: bytes, expected: int | None = None) -> int:
        """Write a key; answers its revision. `expected` is the revision it must have now (0: none).

        Raises:
            Transient: `bus_unavailable`.
            Permanent: `wrong_last_sequence`: somebody else wrote it meanwhile.
        """
        return await self._put(key, value, expected, {})

    async def put_surely(self, key: str, value: bytes, expected: int | None = None) -> int:
        """`put` for somebody who would only ask again: until it is acknowledged, and once.

        Raises:
            Transient: `bus_unavailable`, for more than ten seconds.
            Permanent: as `put`.
        """
        mark = {MSG_ID: mint_id("put")}
        try:
            return await until_acknowledged(lambda: self._put(key, value, expected, mark))
        except Permanent as error:
            found = await self.get(key) if error.code == "wrong_last_sequence" else None
            if found is None or found.headers.get(MSG_ID) != mark[MSG_ID]:
                raise
            return found.revision  # it was stored the first time, and nobody heard of it

    async def _put(
        self, key: str, value: bytes, expected: int | None, headers: dict[str, str]
    ) -> int:
        if expected is not None:
            headers = headers | {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        return (await self._bus.publish(self._prefix + key, value, headers)).seq

    async def delete(self, key: str) -> None:
        """Remove a key; harmless where it does not exist."""
        await self._bus.publish(self._prefix + key, b"", {"KV-Operation": "DEL"})

    async def get(self, key: str) -> Entry | None:
        """The newest value of a key, None where there is none.

        Raises:
            Transient: `bus_unavailable`.
        """
        query = orjson.dumps({"last_by_subj": self._prefix + key})
        return self._entry(await self._bus.stored(self._direct, query))

    async def entries(self, filter_: str = ">") -> list[Entry]:
        """The newest value of every key that matches, the oldest first.

        Raises:
            Transient: `bus_unavailable`.
        """
        found: dict[str, Entry | None] = {}
        # page by page, because `multi_last` refuses to answer with more than 1024 messages
        page = Page(self._direct, self._prefix + filter_)
        while not page.ended:
            for message in await page.read(self._bus):
                subject = (message.headers or {})["Nats-Subject"]
                found.pop(subject, None)
                found[subject] = self._entry(message)
        return [entry for entry in found.values() if entry is not None]

    async def watch(self, on_change: Callable[[Entry], Awaitable[None]]) -> None:
        """Call back for every write from now on; an empty value means that the key was removed."""

        async def receive(message: Msg) -> None:
            await on_change(Entry(message.subject[len(self._prefix) :], message.data, 0, 0.0))

        await self._bus.nc.subscribe(f"{self._prefix}>", cb=receive)

    def _entry(self, message: Msg) -> Entry | None:
        headers = message.headers or {}
        if headers.get("Status") or headers.get("KV-Operation") in ("DEL", "PURGE"):
            return None
        key = headers["Nats-Subject"][len(self._prefix) :]
        time = parse_time(headers.get("Nats-Time-Stamp", ""))
        return Entry(key, message.data, int(headers["Nats-Sequence"]), time, dict(headers))
