"""The log: append facts with derived ids, read a session, find a task. RUNS is the only truth."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import orjson
from nats.aio.msg import Msg

from shared.bus import claims
from shared.bus.connect import ApiError, Bus, PubAck
from shared.contracts.base import Message, SessionRef, encode, step_id
from shared.contracts.facts import (
    Approved,
    Completed,
    Deleted,
    Forked,
    Inferred,
    Noted,
    Parked,
    Rejected,
    Steered,
    TimerFired,
    ToolDone,
    ToolFailed,
)
from shared.contracts.log import ATTEMPT_HEADER, MSG_ID, TASK_HEADER, StoredFact, read_fact
from shared.errors import Failure, Permanent, Transient
from shared.fork import inherited, origin_of, parent_of
from shared.subjects import (
    BY_TYPE,
    RUNS,
    fact_subject,
    forks_filter,
    owner_in,
    session_filter,
    site_of,
)
from shared.telemetry import traceparent

_BATCH = 1000
BEHIND = (0.005, 0.02, 0.1, 0.5, 1.0)
"""Seconds to wait for a server that is behind its cluster, look by look."""
DIRECT_RUNS = f"$JS.API.DIRECT.GET.{RUNS}"
_CAS_ZERO = {"Nats-Expected-Last-Subject-Sequence": "0"}


def fact_id(ref: SessionRef, fact: Message) -> str:
    """The message id of a fact: derived, so that a repetition is recognised.

    Results of a step share one id, whoever produced them: the first one wins.
    """
    kind = BY_TYPE[type(fact)].token
    task = getattr(fact, "task", "") or getattr(fact, "id", "")
    step = getattr(fact, "step", None)
    base = f"{ref}/{task if step is None else step_id(task, step)}"
    attempt = "failed" if _failed(fact) else getattr(fact, "attempt", 1)
    match fact:
        case Inferred() | ToolDone() | ToolFailed(retry=False):
            return f"{base}/result"
        case Approved() | Rejected():  # one answer to one question
            return f"{base}/verdict/{attempt}.{fact.hold}"
        case Parked():
            return f"{base}/{kind}/{attempt}.{fact.hold}"
        case Steered():
            return f"{base}/{kind}/{fact.id}"
        case TimerFired():
            return f"{base}/{fact.timer}/{attempt}.{fact.hold}"
        case Noted():
            return f"{ref}/{kind}/{fact.note}"
        case Deleted():  # the same session may be deleted again
            return f"{ref}/{kind}/{fact.upto}"
    return f"{base}/{kind}/{attempt}"


def _failed(fact: Message) -> bool:
    """A completion that failed does not stand in the way of one that comes after all."""
    return isinstance(fact, Completed) and fact.error is not None


def fact_headers(ref: SessionRef, fact: Message, trace_id: str = "") -> dict[str, str]:
    """The headers that every fact carries (contract, NATS)."""
    task = getattr(fact, "task", "") or getattr(fact, "id", "")
    step = getattr(fact, "step", None)
    span = BY_TYPE[type(fact)].token if step is None else str(step)
    return {
        MSG_ID: fact_id(ref, fact),
        TASK_HEADER: task,
        ATTEMPT_HEADER: str(getattr(fact, "attempt", 1)),
        "traceparent": traceparent(ref, task, span, trace_id),
    }


async def direct_get(bus: Bus, api: str, query: Mapping[str, Any]) -> tuple[list[Msg], bool]:
    """A batch of stored messages, and whether there are more; ends with status 204.

    Raises:
        Transient: `bus_unavailable`.
    """
    *messages, end = await bus.ask_many(api, orjson.dumps(query))
    headers = end.headers or {}
    if headers["Status"] not in ("204", "404"):
        raise Transient("bus_unavailable", f"direct get answered {headers['Status']}")
    return messages, int(headers.get("Nats-Num-Pending", 0)) > 0


class Page:
    """Reads on and on through the messages of a subject, at most `most` at a time."""

    def __init__(self, api: str, subject: str, after: int = 0, most: int = _BATCH) -> None:
        self._api, self._subject, self._most = api, subject, most
        self.after = after
        self.ended = False

    async def read(self, bus: Bus) -> list[Msg]:
        """The next messages; `ended` is set where there are no more.

        Raises:
            Transient: `bus_unavailable`.
        """
        query = {"batch": self._most, "seq": self.after + 1, "next_by_subj": self._subject}
        messages, more = await direct_get(bus, self._api, query)
        if messages:
            self.after = int((messages[-1].headers or {})["Nats-Sequence"])
        self.ended = not (more and messages)
        return messages


class RunLog:
    """Stream RUNS as a log of facts."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def append(
        self, ref: SessionRef, fact: Message, *, trace_id: str = "", patience: float = 30.0
    ) -> PubAck:
        """Append a fact; durable when this returns. Repeating it stores nothing twice.

        A fact that must be unique (`accepted`, `done`) is refused by the server when one is
        there already; this then answers with the stored one and `duplicate`.

        Raises:
            Transient: `bus_unavailable` after `patience` seconds of trying.
            Permanent: `payload_too_large`.
        """
        subject = fact_subject(ref, fact)
        headers = fact_headers(ref, fact, trace_id)
        if BY_TYPE[type(fact)].guarded:
            headers |= _CAS_ZERO
        try:
            async with asyncio.timeout(patience):
                return await self._store(ref, subject, encode(fact), headers)
        except TimeoutError as error:
            raise Transient("bus_unavailable", f"not stored within {patience:g} s") from error

    async def _store(
        self, ref: SessionRef, subject: str, body: bytes, headers: Mapping[str, str]
    ) -> PubAck:
        """Try for ever."""
        delay = 0.05
        while True:
            try:
                return await claims.publish(self._bus, ref, subject, body, headers)
            except Permanent as error:
                if error.code != "wrong_last_sequence":
                    raise
                return PubAck(await self._last(subject), duplicate=True)
            except Transient:
                await asyncio.sleep(delay)
                delay = min(1.0, delay * 2)

    async def _last(self, subject: str) -> int:
        message = await self._get({"last_by_subj": subject})
        return 0 if message is None else int((message.headers or {})["Nats-Sequence"])

    async def unique(self, ref: SessionRef, fact: Message) -> StoredFact | None:
        """What is stored in the place of a fact that there is one of.

        Raises:
            Transient: `bus_unavailable`.
        """
        message = await self._get({"last_by_subj": fact_subject(ref, fact)})
        return None if message is None else await fact_of(self._bus, message)

    async def accepted(self, ref: SessionRef, task: str) -> StoredFact | None:
        """The acceptance of a task in its own session; None where there is none.

        Raises:
            Transient: `bus_unavailable`.
        """
        message = await self._get({"last_by_subj": f"{session_filter(ref)[:-1]}accepted.{task}"})
        return None if message is None else await fact_of(self._bus, message)

    async def _get(self, query: Mapping[str, Any]) -> Msg | None:
        return await _one(self._bus, RUNS, query)

    async def holds(self, seq: int) -> bool:
        """Whether there is a fact at a sequence (still)."""
        return await self._get({"seq": seq}) is not None

    async def check_place(self, ref: SessionRef, seq: int) -> None:
        """Refuse a sequence that is no place in a session, or in what it was forked from.

        One that the log no longer holds passes: what is left after it can be read.

        Raises:
            Permanent: `invalid_cursor`.
            Transient: `bus_unavailable`.
        """
        message = await self._get({"seq": seq}) if seq else None
        if message is None:
            if seq > await self.end():
                raise _misplaced(seq, "the log has not come so far")
            return
        owner = owner_in((message.headers or {})["Nats-Subject"])
        while owner != ref:
            first = await self.first(ref)
            if first is None or not isinstance(first.fact, Forked) or seq > first.fact.at:
                raise _misplaced(seq, "it is of another session")
            ref = parent_of(first)

    async def end(self) -> int:
        """The last sequence there ever was, from the stream's leader.

        Raises:
            Transient: `bus_unavailable`.
        """
        return int((await self._bus.api(f"STREAM.INFO.{RUNS}"))["state"]["last_seq"])

    async def read(self, ref: SessionRef, after: int = 0) -> list[StoredFact]:
        """The facts of a session with a sequence above `after`, in order, none missing.

        Those of a fork begin with what it took over from its parent (`shared.fork`).

        Raises:
            Transient: `bus_unavailable`.
        """
        own = await self._own(ref, after)
        if not own or not isinstance(own[0].fact, Forked):
            return own
        return [fact for fact in await self._with_ancestors(ref) if fact.seq > after]

    async def _own(self, ref: SessionRef, after: int = 0) -> list[StoredFact]:
        """The facts of the session itself, none missing."""
        subject = session_filter(ref)
        wanted = await self._newest(subject)
        for delay in BEHIND:
            found, upto = await self._read(subject, after)
            if upto >= wanted:
                return found
            await asyncio.sleep(delay)
        raise Transient("bus_unavailable", "the server asked is far behind its cluster")

    async def _newest(self, subject: str) -> int:
        """How far a reader has to come."""
        return 0 if self._bus.replicas == 1 else await newest(self._bus, subject)

    async def _with_ancestors(self, ref: SessionRef) -> list[StoredFact]:
        chain: list[tuple[StoredFact, list[StoredFact]]] = []
        own = await self._own(ref)
        while (origin := origin_of(own, chain[-1][0].seq if chain else None)) is not None:
            chain.append((origin, own))
            own = await self._own(parent_of(origin))
        for origin, children in reversed(chain):
            own = [*inherited(own, origin), *children]
        return own

    async def first(self, ref: SessionRef) -> StoredFact | None:
        """The first fact of a session's own; None where it has none. A fork's is `forked`.

        Raises:
            Transient: `bus_unavailable`.
        """
        message = await self._get({"seq": 1, "next_by_subj": session_filter(ref)})
        return None if message is None else await fact_of(self._bus, message)

    async def forks_of(self, ref: SessionRef) -> list[str]:
        """The sessions that were forked from this one and read their beginning here.

        Raises:
            Transient: `bus_unavailable`.
        """
        found = await self.read_filter(forks_filter(ref.tenant))
        return [one.ref.session for one in found if parent_of(one) == ref]

    async def head(self, ref: SessionRef, most: int) -> tuple[list[StoredFact], bool]:
        """The first facts of a session, about `most` of them, and whether there is nothing else."""
        page = Page(DIRECT_RUNS, session_filter(ref), most=most)
        messages = await page.read(self._bus)
        facts = await facts_of(self._bus, messages)
        whole = page.ended and len(facts) == len(messages)
        return facts, whole and page.after >= await self._newest(session_filter(ref))

    async def read_filter(self, subject: str, after: int = 0) -> list[StoredFact]:
        """The facts on a subject (wildcards allowed) with a sequence above `after`, in order."""
        return (await self._read(subject, after))[0]

    async def _read(self, subject: str, after: int) -> tuple[list[StoredFact], int]:
        """The facts, and the sequence up to which they are all there is."""
        found: list[StoredFact] = []
        page = Page(DIRECT_RUNS, subject, after)
        while not page.ended:
            messages = await page.read(self._bus)
            found += await facts_of(self._bus, messages)
        return found, page.after

    async def read_page(self, subject: str, after: int) -> tuple[list[StoredFact], int]:
        """At most a thousand facts on a subject above `after`, and the sequence to go on after;
        that is `after` itself where the log ends. For readers that cannot hold it all."""
        page = Page(DIRECT_RUNS, subject, after)
        messages = await page.read(self._bus)
        facts = await facts_of(self._bus, messages)
        return facts, page.after

    async def turns(self, ref: SessionRef, upto: int) -> list[StoredFact]:
        """The last facts up to a sequence that tell whose turn it is in a session, in order."""
        prefix = session_filter(ref)[:-1]
        filters = [prefix + kind for kind in ("forked", "accepted.*", "inferred", "done.*")]
        try:
            messages, _ = await direct_get(
                self._bus, DIRECT_RUNS, {"multi_last": filters, "up_to_seq": upto}
            )
        except Transient:
            return []  # more than the server answers at once, or away: facts come all the same
        facts = await facts_of(self._bus, messages)
        return sorted(facts, key=lambda fact: fact.seq)

    async def sessions(self, tenant: str) -> list[str]:
        """The sessions of a tenant that a task was submitted to here, sorted; copies are not ours.

        Raises:
            Transient: `bus_unavailable`.
        """
        found: set[str] = set()
        offset, total = 0, 1
        while offset < total:  # the server names at most 100,000 subjects at once
            question = {"subjects_filter": f"run.*.{tenant}.*.task.*", "offset": offset}
            answer = await self._bus.api(f"STREAM.INFO.{RUNS}", question)
            names = answer["state"].get("subjects") or {}
            found |= {name.split(".")[3] for name in names if not site_of(name)}
            offset += len(names)
            total = answer.get("total", 0) if names else 0
        return sorted(found)

    async def find_task(self, tenant: str, task: str) -> SessionRef | None:
        """The session of an accepted or refused task, from the log alone."""
        for kind in ("accepted", "done"):
            message = await self._get({"last_by_subj": f"run.*.{tenant}.*.{kind}.{task}"})
            if message is not None:
                subject = (message.headers or {})["Nats-Subject"]
                if site_of(subject):
                    continue  # a copy: the task is that of another site
                return SessionRef(tenant, subject.split(".")[3])
        return None


def _misplaced(seq: int, why: str) -> Permanent:
    return Permanent("invalid_cursor", f"{seq} is no place in this session: {why}", field="after")


async def newest(bus: Bus, subject: str) -> int:
    """The sequence of the last message of RUNS on a subject, from the stream's leader.

    Any server of a cluster answers a direct get, and one that is a moment behind leaves out what it
    has not heard of yet (ADR 0014).

    Raises:
        Transient: `bus_unavailable`.
    """
    try:
        found = await bus.api(f"STREAM.MSG.GET.{RUNS}", {"last_by_subj": subject})
    except ApiError as error:
        if error.missing:
            return 0
        raise
    return int(found["message"]["seq"])


async def last_message(bus: Bus, stream: str, subject: str) -> Msg | None:
    """The newest message on a subject (wildcards allowed) of any stream with direct get.

    Raises:
        Transient: `bus_unavailable`.
    """
    return await _one(bus, stream, {"last_by_subj": subject})


async def message_at(bus: Bus, stream: str, sequence: int) -> Msg | None:
    """The message at a sequence of any stream with direct get; None where it is gone.

    Raises:
        Transient: `bus_unavailable`.
    """
    return await _one(bus, stream, {"seq": sequence})


async def _one(bus: Bus, stream: str, query: Mapping[str, Any]) -> Msg | None:
    reply = await bus.stored(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(query))
    headers = reply.headers or {}
    if headers.get("Nats-Sequence"):
        return reply
    if headers.get("Status") != "404":
        raise Transient("bus_unavailable", f"direct get answered {headers.get('Status')}")
    return None


async def facts_of(bus: Bus, messages: Iterable[Msg]) -> list[StoredFact]:
    """The facts in messages of RUNS, in their order.

    Raises:
        Transient: `bus_unavailable`.
    """
    found: list[StoredFact] = []
    for message in messages:
        fact = await fact_of(bus, message)
        if fact is not None:
            found.append(fact)
    return found


async def fact_of(bus: Bus, message: Msg) -> StoredFact | None:
    """The fact in a message that came by direct get or by republishing.

    Both name the original subject, sequence and time in headers.

    Raises:
        Transient: `bus_unavailable`, for a body that does not lie in the message.
    """
    headers = message.headers or {}
    subject = headers.get("Nats-Subject", message.subject)
    time = parse_time(headers.get("Nats-Time-Stamp", ""))
    sequence = int(headers.get("Nats-Sequence", 0))
    body: bytes | Failure = message.data
    if claims.CLAIM in headers:
        body = await body_of(bus, subject, message.data, headers)
    return read_fact(subject, body, sequence, time, headers)


async def body_of(
    bus: Bus, subject: str, body: bytes, headers: Mapping[str, str]
) -> bytes | Failure:
    """The whole body of a message of RUNS, or why it cannot be had: no reason to stop reading.

    Raises:
        Transient: `bus_unavailable`.
    """
    try:
        return await claims.opened(bus, owner_in(subject), body, headers)
    except Permanent as error:
        return error.as_failure()


def parse_time(stamp: str) -> float:
    """Epoch seconds of an RFC 3339 time with up to nine digits of fraction."""
    if not stamp:
        return 0.0
    head, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(head + "+00:00").timestamp() + float(f"0.{fraction or 0}")
