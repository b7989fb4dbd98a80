"""One connection to the broker: publishing with acknowledgement, requests, the JetStream API.

Publishing is raw (`reply` = an inbox of ours, one subscription for all acknowledgements): with
`js.publish` the client costs four times as much per message (facts: nats.md, section 2).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.acks import Acks
from shared.bus.denials import Denials, Denied
from shared.bus.login import Login, login_of
from shared.bus.replies import Replies
from shared.bus.trust import distrusted, stuck
from shared.errors import Broken, Permanent, Transient
from shared.settings import Address
from shared.telemetry import Log

WRONG_LAST = 10071
_IN_FLIGHT = frozenset({10158, 10164})
"""Another message with this id, or a guarded one of this subject, is on its way through the
cluster: its outcome is open, so try again."""
_UNAVAILABLE = 503
_PAUSE = 0.2
_NOBODY = "503"
"""The status in the header of the server's own answer where nobody listens."""
_TRANSIENT_CODES = frozenset({_UNAVAILABLE, 408, 429, 500})
_UNACKNOWLEDGED = 256
"""Messages under way to streams at once. The server stores one after the other, each with an fsync:
what waits behind thousands would seem to be lost."""
Reconnected = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PubAck:
    """`seq` in the stream; `duplicate` where the message id was known already."""

    seq: int
    duplicate: bool


class Reader(Protocol):
    """In the place of the streams, for a connection that may not ask them itself."""

    async def one(self, api: str, query: bytes) -> Msg:
        """The answer of a direct get, see `Bus.stored`."""
        ...

    async def many(self, api: str, query: bytes) -> list[Msg]:
        """The answers of a batch, see `Bus.ask_many`."""
        ...

    def check(self, subject: str) -> None:
        """Refuse, before it is sent, what the server would not let through.

        Raises:
            Permanent: why, and what to do instead.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    """Somebody waits for an answer. A `lasting` one may still come after a reconnect."""

    subject: str
    future: asyncio.Future[Msg]
    lasting: bool

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Bus:
    """A connection with its acknowledgement inbox. Create it with `open_bus`.

    `replicas` is how many servers hold each stream, `login` who this is.
    """

    def __init__(
        self,
        nc: Client,
        log: Log,
        name: str = "client",
        replicas: int = 1,
        login: Login | None = None,
    ) -> None:
        self.nc = nc
        self.name = name
        self.log = log
        self.replicas = replicas
        self.ready = False
        """Whether the service behind it has started, so that it answers."""
        self.login = login or Login()
        self.denials = Denials(log)
        self.denials.listen(self._on_denied)
        self.replies = Replies(nc)
        self.acks = Acks()
        self.reader: Reader | None = None
        """Set for a tenant's own client (`shared.bus.asking`): it asks for what is stored."""
        self._waiting: dict[str, _Pending] = {}
        self._pages: dict[str, list[Msg]] = {}
        self._window = asyncio.Semaphore(_UNACKNOWLEDGED)
        self._next = 0
        self._inbox = ""
        self._reconnected: list[Reconnected] = []

    async def start(self) -> None:
        """Subscribe to the inboxes: of acknowledgements, and of streamed answers."""
        await self.replies.start()
        self._inbox = f"{self.nc.new_inbox()}."
        await self.nc.subscribe(
            f"{self._inbox}*",
            cb=self._on_reply,
            pending_msgs_limit=1_000_000,
            pending_bytes_limit=0,
        )

    async def _on_reply(self, message: Msg) -> None:
        key = message.subject[len(self._inbox) :]
        pages = self._pages.get(key)
        if pages is not None:
            pages.append(message)
            if "Status" not in (message.headers or ()):
                return  # more to come
        pending = self._waiting.pop(key, None)
        if pending is not None and not pending.future.done():
            pending.future.set_result(message)

    def _on_denied(self, denied: Denied) -> None:
        """Whoever waits for an answer on that subject gets none: it never was sent."""
        if denied.operation != "publish":
            return
        for pending in list(self._waiting.values()):
            if pending.subject.lower() == denied.subject:
                pending.fail(_denied(pending.subject, self.login.user or self.name))

    async def publish(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        patience: float = 3.0,
    ) -> PubAck:
        """Publish to a stream and wait for its acknowledgement.

        Of many at once, some wait before they are sent; `patience` (seconds) begins then.

        Raises:
            Transient: `bus_unavailable` (no answer, or no stream yet): the message may or may
                not be stored, so repeat it under the same message id.
            Permanent: `wrong_last_sequence` (CAS refused) or `payload_too_large`.
            Broken: `permission_denied`: this user may not publish there.
        """
        async with self._window:
            reply = await self._ask(subject, body, headers, patience)
        if not reply.data:
            raise Transient("bus_unavailable", "no stream takes this subject now")
        answer = orjson.loads(reply.data)
        if error := answer.get("error"):
            raise _publish_error(subject, error)
        return PubAck(answer["seq"], answer.get("duplicate", False))

    async def _ask(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | None,
        patience: float,
        *,
        lasting: bool = False,
    ) -> Msg:
        if self.reader is not None:
            self.reader.check(subject)
        key = self._key()
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        pending = self._waiting[key] = _Pending(subject, future, lasting)
        handle = asyncio.get_running_loop().call_later(patience, pending.fail, TimeoutError())
        try:
            await self.nc.publish(
                subject, body, reply=self._inbox + key, headers=dict(headers) if headers else None
            )
            await self.acks.flush()
            return await future
        except TimeoutError as error:
            raise Transient("bus_unavailable", "the broker did not acknowledge in time") from error
        except nats.errors.MaxPayloadError as error:
            raise self._too_large(body) from error
        except nats.errors.Error as error:
            raise Transient("bus_unavailable", type(error).__name__) from error
        finally:
            handle.cancel()
            self._waiting.pop(key, None)

    def _too_large(self, body: bytes) -> Permanent:
        return Permanent(
            "payload_too_large",
            f"{len(body)} bytes are more than the bus takes ({self.nc.max_payload})",
        )

    def _key(self) -> str:
        self._next += 1
        return str(self._next)

    async def ask_many(self, subject: str, body: bytes, patience: float = 5.0) -> list[Msg]:
        """A request with many replies; the last one has a `Status` header.

        Over the inbox that is there already: a subscription of its own for each request, read
        message by message, costs four times as much.

        Raises:
            Transient: `bus_unavailable`.
        """
        if self.reader is not None:
            return await self.reader.many(subject, body)
        key = str(self._next + 1)
        found = self._pages[key] = []
        try:
            await self._ask(subject, body, None, patience)
        finally:
            del self._pages[key]
        return found

    async def send(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Publish without an acknowledgement (token deltas, replies, signals).

        Raises:
            Transient: `bus_unavailable` while there is no connection.
            Permanent: `payload_too_large`.
        """
        if self.reader is not None:
            self.reader.check(subject)
        try:
            await self.nc.publish(
                subject, body, reply=reply, headers=dict(headers) if headers else None
            )
            await self.acks.flush()
        except nats.errors.MaxPayloadError as error:
            raise self._too_large(body) from error
        except nats.errors.Error as error:
            raise Transient("bus_unavailable", type(error).__name__) from error

    async def arrived(self, patience: float = 5.0) -> None:
        """Return once the server has acted on all that was sent before, subscriptions among it.

        `nc.flush` is no proof of that: nats-py writes its PING past what waits in its buffer.

        Raises:
            Transient: `bus_unavailable`, `request_timeout`.
        """
        with self.replies.open(patience) as answers:
            await self.send(answers.subject, b"")
            await answers.next()

    async def request(
        self,
        subject: str,
        body: bytes,
        patience: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Core request/reply.

        Raises:
            Transient: `no_responders` (the service is away) or `request_timeout`.
            Permanent: `payload_too_large`.
            Broken: `permission_denied`.
        """
        try:
            reply = await self._ask(subject, body, headers, patience, lasting=True)
        except Transient as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise
            raise Transient("request_timeout", f"no answer on {subject} in {patience} s") from error
        if not reply.data and reply.headers and reply.headers.get("Status") == _NOBODY:
            raise Transient("no_responders", f"nobody answers {subject}")
        return reply.data

    async def stored(self, api: str, query: bytes) -> Msg:
        """The answer of a direct get: one stored message, or a `Status` that says why not.

        Raises:
            Transient: `bus_unavailable`.
            Broken: `permission_denied`.
        """
        if self.reader is not None:
            return await self.reader.one(api, query)
        reply = await self._ask(api, query, None, 5.0, lasting=True)
        if reply.headers and reply.headers.get("Status") == _NOBODY:
            raise Transient("bus_unavailable", f"nobody answers {api}")
        return reply

    async def api(self, call: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A raw JetStream API call, for the fields that nats-py does not know.

        Raises:
            ApiError: what the server answered.
            Transient: the server did not answer, or cannot now (a cluster without a leader).
        """
        data = b"" if body is None else orjson.dumps(body)
        answer: dict[str, Any] = orjson.loads(await self.request(f"$JS.API.{call}", data))
        if error := answer.get("error"):
            if error.get("code") == _UNAVAILABLE:
                raise Transient("bus_unavailable", f"{call}: {error.get('description')}")
            raise ApiError(call, error)
        return answer

    def disconnected(self) -> None:
        """No answer comes any more to what was published: whoever waits may try again now."""
        for pending in self._waiting.values():
            if not pending.lasting:
                pending.fail(TimeoutError())
        self.replies.disconnected()

    def on_reconnect(self, callback: Reconnected) -> None:
        """Call this after every reconnect (streams and consumers in memory may be gone)."""
        self._reconnected.append(callback)

    def forget_reconnect(self, callback: Reconnected) -> None:
        """Call it no more; harmless where it never was registered."""
        with suppress(ValueError):
            self._reconnected.remove(callback)

    async def reconnected(self) -> None:
        """Run the callbacks; a failing one must not keep the others from running."""
        for callback in list(self._reconnected):
            try:
                await callback()
            except (Transient, Permanent, Broken, nats.errors.Error) as error:
                self.log.warning("bus.reconnect_hook_failed", error=str(error))

    async def close(self) -> None:
        """Flush and close; bounded, harmless when the connection is gone already."""
        await self.acks.flush()
        try:
            await asyncio.wait_for(self.nc.drain(), 5)
        except (TimeoutError, nats.errors.Error):
            # while it reconnects, nats-py writes what is pending to the transport that is gone
            with suppress(nats.errors.Error, OSError, RuntimeError, TypeError):
                await self.nc.close()


class ApiError(Permanent):
    """A JetStream API call was refused; `number` is the server's own error code."""

    def __init__(self, call: str, error: Mapping[str, Any]) -> None:
        super().__init__("jetstream_error", f"{call}: {error.get('description')}")
        self.number = int(error.get("err_code", 0))
        self.missing = error.get("code") == 404


def _denied(subject: str, user: str) -> Broken:
    """Not the message is wrong but the deployment: work is tried again, and not lost to it."""
    return Broken(
        "permission_denied",
        f"the bus does not let {user} publish to {subject}: use another user's credentials, or "
        "grant it in shared/subjects/permissions.py",
    )


def _publish_error(subject: str, error: Mapping[str, Any]) -> Transient | Permanent:
    text = f"{subject}: {error.get('description')} ({error.get('err_code')})"
    if error.get("err_code") == WRONG_LAST:
        return Permanent("wrong_last_sequence", text)
    if error.get("code") in _TRANSIENT_CODES or error.get("err_code") in _IN_FLIGHT:
        return Transient("bus_unavailable", text)
    return Permanent("publish_refused", text)


class _Line:
    """What happens to a connection, for the bus that is behind it once there is one."""

    def __init__(self, log: Log, login: Login) -> None:
        self.log = log
        self.login = login
        self.bus: Bus | None = None

    async def reconnected(self) -> None:
        self.log.info("bus.reconnected")
        if self.bus is not None:
            await self.bus.reconnected()

    async def disconnected(self) -> None:
        self.log.warning("bus.disconnected")
        if self.bus is not None:
            self.bus.disconnected()

    async def failed(self, error: Exception) -> None:
        untrusted = distrusted(error)
        if untrusted is not None:
            self.log.error("bus.untrusted_server", detail=untrusted.detail)
        elif self.bus is None or not self.bus.denials.notice(error):
            self.log.warning("bus.error", error=type(error).__name__)
        if self.bus is not None:
            return  # an old certificate, perhaps, which will be replaced
        if untrusted is not None:
            raise untrusted
        if self.login.tls is not None and stuck(error):
            raise Transient("bus_unavailable", type(error).__name__) from error

    async def connect(self, servers: list[str], name: str) -> Client:
        """Wait for the broker as long as it takes; it reconnects for ever."""
        options: dict[str, Any] = {"reconnect_time_wait": _PAUSE, **self.login.options()}
        while True:
            nc = Client()
            try:
                await nc.connect(
                    servers,
                    name=name,
                    reconnected_cb=self.reconnected,
                    disconnected_cb=self.disconnected,
                    error_cb=self.failed,
                    max_reconnect_attempts=-1,
                    pending_size=64 << 20,
                    **options,
                )
            except Transient:
                await asyncio.sleep(_PAUSE)
            else:
                return nc


@asynccontextmanager
async def open_bus(address: Address, name: str, log: Log) -> AsyncIterator[Bus]:
    """Connect (waiting for the broker as long as it takes), and close at the end.

    The client reconnects for ever; `Bus.on_reconnect` says when.

    Raises:
        Permanent: `invalid_credentials`, `invalid_tls`, `untrusted_server`.
    """
    login = login_of(address, name)
    line = _Line(log, login)
    nc = await line.connect(address.servers, name)
    bus = line.bus = Bus(nc, log, name, address.replicas, login)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()
