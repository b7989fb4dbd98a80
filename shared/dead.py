"""The client's side of stream DEAD: list dead letters, show one, send its message again."""

from __future__ import annotations

from dataclasses import replace

from nats.aio.msg import Msg

from shared.bus.burial import Delivery, as_body, found_again, step_of
from shared.bus.claims import CLAIM
from shared.bus.connect import Bus
from shared.bus.log import Page, RunLog, last_message, message_at, parse_time
from shared.clock import now
from shared.contracts.base import SessionRef, as_token, check_token, decode, encode
from shared.contracts.dead import DeadLetter, Filed, Letters, Retried, Wanted
from shared.contracts.facts import Done, Inferred
from shared.contracts.log import MSG_ID
from shared.errors import Permanent
from shared.fork import is_tool_result
from shared.subjects import (
    DEAD,
    DOCS,
    NOBODY,
    RUNS,
    WORK,
    Grave,
    dead_filter,
    parse_grave,
    parse_run,
    retried_subject,
    task_subject,
)

MOST = 500
_KEPT = ("traceparent", CLAIM)
"""Headers that go along; ids are made anew, and what the server added is its own."""


class DeadLetters:
    """The letters of a tenant; of everybody, and of nobody, without one."""

    def __init__(self, bus: Bus, tenant: str | None) -> None:
        self._bus, self._tenant = bus, tenant

    async def list(self, wanted: Wanted | None = None, after: int = 0, limit: int = 50) -> Letters:
        """Letters in the order of their ids, from above `after` on.

        Raises:
            Permanent: `invalid_limit`, `invalid_name`.
            Transient: `bus_unavailable`.
        """
        if not 1 <= limit <= MOST:
            raise Permanent("invalid_limit", f"limit is 1 to {MOST}, not {limit}", field="limit")
        wanted = wanted or Wanted()
        page = Page(f"$JS.API.DIRECT.GET.{DEAD}", self._subject(wanted), after)
        found: list[Filed] = []
        while not page.ended:
            for message in await page.read(self._bus):
                filed = _filed(message)
                if filed is None or wanted.code not in ("", filed.letter.error.code):
                    continue
                if len(found) == limit:
                    return Letters(tuple(found), found[-1].id)
                found.append(await self._marked(filed))
        return Letters(tuple(found))

    def _subject(self, wanted: Wanted) -> str:
        for value, name in ((wanted.session, "session"), (wanted.consumer, "consumer")):
            if value:
                check_token(value, name)
        return dead_filter(self._tenant or "*", wanted.session or "*", wanted.consumer or "*")

    async def get(self, letter: int) -> Filed:
        """One letter.

        Raises:
            Permanent: `unknown_letter`.
            Transient: `bus_unavailable`.
        """
        message = await message_at(self._bus, DEAD, letter) if letter > 0 else None
        filed = None if message is None else _filed(message)
        if filed is None or self._tenant not in (None, filed.tenant):
            raise Permanent("unknown_letter", f"there is no dead letter {letter}", field="id")
        return await self._marked(filed)

    async def _marked(self, filed: Filed) -> Filed:
        mark = await last_message(self._bus, DEAD, retried_subject(_grave(filed)))
        return filed if mark is None else replace(filed, retried=decode(mark.data, Retried))

    async def retry(self, letter: int, by: str = "") -> Retried:
        """Publish the original message once more, under a new id that is derived from the letter.

        Repeating it publishes nothing and answers as the first time.

        Raises:
            Permanent: `unknown_letter`; `original_gone`, `not_retryable`, `invalid_name`,
                `superseded`, `task_ended`, `step_has_result`: the detail says what to do.
            Transient: `bus_unavailable`.
        """
        filed = await self.get(letter)
        if filed.retried is not None:
            return filed.retried
        original = await self._original(filed.letter)
        grave = _grave(filed)
        headers = {name: original.headers[name] for name in _KEPT if name in original.headers}
        headers[MSG_ID] = as_token(f"again-{grave.stream}-{grave.sequence}-{grave.stamp}")
        headers |= await self._conditions(filed.letter, original)
        try:
            ack = await self._bus.publish(_destination(original), original.body, headers)
        except Permanent as error:
            raise _newer(error) from error
        made = Retried(stream=filed.letter.stream, sequence=ack.seq, by=by, time=round(now(), 3))
        return await self._mark(grave, made)

    async def _mark(self, grave: Grave, made: Retried) -> Retried:
        """Note it in DEAD; where somebody else was faster, theirs counts (it is the same one)."""
        subject = retried_subject(grave)
        headers = {MSG_ID: subject, "Nats-Expected-Last-Subject-Sequence": "0"}
        try:
            await self._bus.publish(subject, encode(made), headers)
        except Permanent as error:
            if error.code != "wrong_last_sequence":
                raise
            mark = await last_message(self._bus, DEAD, subject)
            return made if mark is None else decode(mark.data, Retried)
        return made

    async def _original(self, letter: DeadLetter) -> Delivery:
        """The whole message: quoted by the letter, else as its stream still holds it."""
        if letter.original == "whole":
            body = as_body(letter.body)
            place = (letter.stream, letter.sequence, letter.deliveries, letter.time)
            return Delivery(letter.subject, body, *place, letter.headers)
        if letter.original == "cut":
            message = await message_at(self._bus, letter.stream, letter.sequence)
            if message is not None:
                found = found_again(message, letter.stream, letter.deliveries)
                if found.time == letter.time:
                    return found
        raise Permanent(
            "original_gone",
            f"the letter does not hold the whole message, and {letter.stream} has it no more",
            field="id",
        )

    async def _conditions(self, letter: DeadLetter, original: Delivery) -> dict[str, str]:
        """Headers that keep a retry from doing harm."""
        if letter.stream == RUNS:
            _check_task(letter)
        elif letter.stream == WORK:
            await self._check_step(original)
        elif letter.stream == DOCS:  # only where no newer version of the document has come
            last = await last_message(self._bus, DOCS, letter.subject)
            there = 0 if last is None else int((last.headers or {})["Nats-Sequence"])
            if there not in (0, letter.sequence):
                raise _superseded()
            return {"Nats-Expected-Last-Subject-Sequence": str(there)}
        return {}

    async def _check_step(self, original: Delivery) -> None:
        """A step is not run twice, and not for a task that is over."""
        step = step_of(original.body, original.headers)
        if step is None:
            return
        log = RunLog(self._bus)
        facts = [one.fact for one in await log.read(step.ref) if one.task == step.task]
        if any(isinstance(fact, Done) for fact in facts):
            raise Permanent(
                "task_ended",
                f"task {step.task} has ended, so nobody waits for its step {step.step}; "
                "retry the task instead",
                field="id",
            )
        if any(_results(fact) == step.step for fact in facts):
            raise Permanent(
                "step_has_result", f"step {step.step} of {step.task} has a result", field="id"
            )


def _grave(filed: Filed) -> Grave:
    letter, owner = filed.letter, SessionRef(filed.tenant, filed.session or NOBODY)
    stamp = int(letter.time * 1000)
    return Grave(owner, letter.consumer, letter.stream, letter.sequence, stamp)


def _results(fact: object) -> int | None:
    if isinstance(fact, Inferred):
        return fact.step
    return getattr(fact, "step", None) if is_tool_result(fact) else None


def _check_task(letter: DeadLetter) -> None:
    """A fact is in the log already, whoever could not read it; a task can be submitted again."""
    if letter.consumer == "strays":
        raise Permanent(
            "not_retryable", f"{letter.subject} holds a name that no task can have", field="id"
        )
    if letter.consumer != "sessions" or parse_run(letter.subject).kind != "task":
        raise Permanent(
            "not_retryable",
            f"{letter.subject} is in the log, a second one would change nothing; the ledger reads "
            "the log again with `python -m services.ledger --rebuild`",
            field="id",
        )


def _destination(original: Delivery) -> str:
    """The subject that it was published to: the log's own is written by the server."""
    if original.stream != RUNS or not original.subject.startswith("run."):
        return original.subject
    address = parse_run(original.subject)
    return task_subject(address.ref, address.rest)


def _newer(error: Permanent) -> Permanent:
    return _superseded() if error.code == "wrong_last_sequence" else error


def _superseded() -> Permanent:
    return Permanent("superseded", "a newer version of the document is there", field="id")


def _filed(message: Msg) -> Filed | None:
    """None for what is no letter: advisories, marks, and what a stranger put there."""
    headers = message.headers or {}
    try:
        grave = parse_grave(headers["Nats-Subject"])
        letter = decode(message.data, DeadLetter)
    except Permanent:
        return None
    time = parse_time(headers["Nats-Time-Stamp"])
    owner = grave.owner
    session = "" if owner.session == NOBODY else owner.session
    return Filed(int(headers["Nats-Sequence"]), time, owner.tenant, session, letter)
