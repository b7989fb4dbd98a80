"""Dead letters and deletions in memory, with the guarantees of the real ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from shared.contracts.base import SessionRef
from shared.contracts.control import DeleteReply
from shared.contracts.dead import DeadLetter, Filed, Letters, Retried, Try, Wanted
from shared.errors import Failure, Permanent

BROKEN = Failure(code="engine_broken", family="broken", detail="it broke")


def filed(number: int, tenant: str = "default", session: str = "s1", code: str = "") -> Filed:
    """The letter with this id."""
    letter = DeadLetter(
        subject="work.route",
        consumer="router",
        error=replace_code(BROKEN, code),
        deliveries=40,
        body='{"task": "t1"}',
        stream="WORK",
        sequence=number + 100,
        headers={"Nats-Msg-Id": "x"},
        time=1_790_000_000.5,
        tries=(Try(delivery=39, time=1_790_000_010.5, error=BROKEN),),
    )
    return Filed(number, 1_790_000_020.5, tenant, session, letter)


def replace_code(failure: Failure, code: str) -> Failure:
    return Failure(code=code or failure.code, family=failure.family, detail=failure.detail)


@dataclass
class FakeLetters:
    """Everybody's letters; `of` gives those of one tenant."""

    found: list[Filed] = field(default_factory=list)
    sent: list[tuple[int, str]] = field(default_factory=list)

    async def list(
        self, tenant: str | None, wanted: Wanted | None, after: int, limit: int
    ) -> Letters:
        chosen = wanted or Wanted()
        fits = [
            one
            for one in self.found
            if one.id > after
            and tenant in (None, one.tenant)
            and chosen.session in ("", one.session)
            and chosen.consumer in ("", one.letter.consumer)
            and chosen.code in ("", one.letter.error.code)
        ]
        page = fits[:limit]
        return Letters(tuple(page), page[-1].id if len(fits) > limit else None)

    async def get(self, tenant: str | None, letter: int) -> Filed:
        for one in self.found:
            if one.id == letter and tenant in (None, one.tenant):
                return one
        raise Permanent("unknown_letter", f"there is no dead letter {letter}", field="id")

    async def retry(self, tenant: str | None, letter: int, by: str) -> Retried:
        one = await self.get(tenant, letter)
        if one.letter.original == "gone":
            raise Permanent("original_gone", "it is gone", field="id")
        if one.retried is None:
            self.sent.append((letter, by))
            made = Retried(stream="WORK", sequence=77, by=by, time=1_790_000_030.5)
            one = replace(one, retried=made)
            self.found = [one if other.id == letter else other for other in self.found]
        assert one.retried is not None
        return one.retried


@dataclass
class FakeHousekeeping:
    """Port `Housekeeping` of the ingress. `busy` sessions have a task that runs."""

    letters_: FakeLetters = field(default_factory=FakeLetters)
    sessions: set[SessionRef] = field(default_factory=set)
    busy: set[SessionRef] = field(default_factory=set)
    complete: bool = True
    unkept: list[SessionRef] = field(default_factory=list)

    async def letters(self, tenant: str, wanted: Wanted, after: int, limit: int) -> Letters:
        return await self.letters_.list(tenant, wanted, after, limit)

    async def letter(self, tenant: str, letter: int) -> Filed:
        return await self.letters_.get(tenant, letter)

    async def retry(self, tenant: str, letter: int, by: str) -> Retried:
        return await self.letters_.retry(tenant, letter, by)

    async def delete_session(self, ref: SessionRef, *, force: bool, by: str) -> DeleteReply:
        if ref not in self.sessions:
            raise Permanent("unknown_session", f"there is no session {ref.session!r}")
        if ref in self.busy and not force:
            raise Permanent("session_busy", "not ended: t1", field="session")
        self.sessions.discard(ref)
        return DeleteReply(sequence=44, complete=self.complete)

    async def forget_later(self, ref: SessionRef) -> None:
        self.unkept.append(ref)
