"""The in-memory twins of the store and of the log: same guarantees, nothing kept on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from services.ledger.core import (
    CONTENT,
    GROUPS,
    KEYS,
    Change,
    Horizons,
    Key,
    Value,
    coalesce,
    horizons_of,
    kept,
)
from services.ledger.ports import Page, Position
from shared.contracts.facts import Usage
from shared.contracts.ledger import TasksQuery, TaskState, TaskSummary, UsageQuery, UsageSummary
from shared.contracts.log import StoredFact

Row = dict[str, Value]


class MemoryStore:
    """`LedgerStore` over dictionaries."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Key, Row]] = {table: {} for table in KEYS}
        self._position = Position(sequence=0, oldest=0, replay_from=1, replay_until=None)

    async def open(self) -> None:
        """Nothing to create."""

    async def close(self) -> None:
        """Nothing to release."""

    async def position(self) -> Position:
        """Where the projection stands."""
        return self._position

    async def apply(
        self, changes: Sequence[Change], sequence: int, replayed: int | None = None
    ) -> None:
        """Follow the rule of each change's group."""
        new = horizons_of(changes)
        for key, below in new.items():
            self._erase(key, below)
        changes = kept(changes, self._horizons(new))
        for change in coalesce(changes):
            row = self.rows[change.group.table].setdefault(change.key, {})
            held = row.get(change.group.guard)
            if change.group.wins(change.sequence, None if held is None else int(held)):
                row.update(change.values)
                row[change.group.guard] = change.sequence
        at = self._position
        seen = [change.sequence for change in changes]
        if new:
            seen = self._guards()
        elif at.oldest:
            seen.append(at.oldest)
        self._position = Position(
            sequence=max(at.sequence, sequence),
            oldest=min(seen, default=0),
            replay_from=at.replay_from if replayed is None else replayed,
            replay_until=at.replay_until,
        )

    def _erase(self, key: Key, below: int) -> None:
        """Drop the rows of a session that were begun by a fact below a sequence."""
        for table in CONTENT:
            self.rows[table] = {
                place: row
                for place, row in self.rows[table].items()
                if place[:2] != key or min(_guards_of(table, row)) >= below
            }

    def _horizons(self, new: Horizons) -> Horizons:
        held = {key: int(row["below"]) for key, row in self.rows["deletions"].items()}
        return {key: max(held.get(key, 0), new.get(key, 0)) for key in held | new}

    def _guards(self) -> list[int]:
        return [
            guard
            for table, rows in self.rows.items()
            for row in rows.values()
            for guard in _guards_of(table, row)
        ]

    async def begin_replay(self, until: int, *, drop: bool = False) -> None:
        """Note the replay; with `drop`, forget every row."""
        at = self._position
        if drop:
            self.rows = {table: {} for table in KEYS}
            at = replace(at, sequence=0, oldest=0)
        self._position = replace(at, replay_from=1, replay_until=until)

    async def tasks(self, query: TasksQuery) -> tuple[TaskSummary, ...]:
        """Newest first."""
        found = [
            self._summary(key, row)
            for key, row in self.rows["tasks"].items()
            if "submitted_seq" in row and key[0] == query.tenant
        ]
        wanted = [task for task in found if _matches(task, query)]
        return tuple(sorted(wanted, key=lambda task: -task.sequence)[: query.limit])

    def _summary(self, key: Key, row: Row) -> TaskSummary:
        source = row if "done_seq" in row else self._so_far(key)
        accepted, submitted = float(row.get("accepted", 0.0)), float(row["submitted"])
        return TaskSummary(
            task=str(key[2]),
            session=str(key[1]),
            agent=str(row["agent"]),
            status=self._state(key, row),
            sequence=int(row["submitted_seq"]),
            submitted=submitted,
            accepted=accepted,
            done=float(row.get("done", 0.0)),
            queue_ms=max(0.0, (accepted - submitted) * 1000) if accepted else 0.0,
            revision=int(row.get("revision", 0)),
            steps=int(source["steps"]),
            infer_steps=int(source["infer_steps"]),
            tool_steps=int(source["tool_steps"]),
            usage=_usage(source),
            price=int(source["price"]),
            error_code=str(row.get("error_code", "")),
            input=str(row["input"]),
            output=str(row.get("output", "")),
        )

    def _state(self, key: Key, row: Row) -> TaskState:
        if "done_seq" in row:
            return str(row["status"])  # type: ignore[return-value]  # a Status, as the fact has it
        if "accepted_seq" not in row:
            return "queued"
        waits = ((at, one) for at, one in self.rows["waits"].items() if at[:3] == key)
        return "parked" if any(self._open(at, one) for at, one in waits) else "running"

    def _open(self, key: Key, wait: Row) -> bool:
        answered = int(wait.get("answered_seq", 0))
        result = "result_seq" in self.rows["steps"].get(key, {})
        return int(wait.get("parked_seq", 0)) > answered and not result

    def _so_far(self, key: Key) -> Row:
        rows = [
            row
            for place, row in self.rows["steps"].items()
            if place[:3] == key and "result_seq" in row
        ]
        sums: Row = {name: sum(int(row[name]) for row in rows) for name in _SUMS}
        infer = sum(row["kind"] == "infer" for row in rows)
        return sums | {
            "steps": len(rows),
            "infer_steps": infer,
            "tool_steps": len(rows) - infer,
        }

    async def usage(self, query: UsageQuery) -> tuple[UsageSummary, ...]:
        """Groups over first results and stateless completions."""
        groups: dict[str, UsageSummary] = {}
        for call in self._calls():
            if not _counts(call, query):
                continue
            key = str(call[query.by])
            held = groups.get(key, UsageSummary(key=key, calls=0, usage=Usage()))
            groups[key] = UsageSummary(
                key=key,
                calls=held.calls + int(call.get("calls", 1)),
                usage=held.usage + _usage(call),
                price=held.price + int(call["price"]),
            )
        return tuple(sorted(groups.values(), key=lambda group: _order(group, query)))

    def _calls(self) -> Iterable[Row]:
        for key, row in self.rows["steps"].items():
            if row.get("kind") == "infer":
                tenant, session, task, _ = key
                agent = self.rows["tasks"].get((tenant, session, task), {}).get("agent", "")
                yield row | {
                    "tenant": tenant,
                    "session": session,
                    "task": task,
                    "agent": agent,
                    "model": row["name"],
                }
        for key, row in self.rows["completions"].items():
            yield row | {"tenant": key[0], "session": "", "task": key[1], "agent": ""}
        for key, row in self.rows["erased"].items():
            yield row | dict(zip(KEYS["erased"], key, strict=True)) | {"task": ""}


_SUMS = ("input_tokens", "cached_tokens", "output_tokens", "price")


def _guards_of(table: str, row: Row) -> list[int]:
    return [int(row[g.guard]) for g in GROUPS if g.table == table and g.guard in row]


def _usage(row: Row) -> Usage:
    return Usage(
        input=int(row["input_tokens"]),
        cached=int(row["cached_tokens"]),
        output=int(row["output_tokens"]),
    )


def _matches(task: TaskSummary, query: TasksQuery) -> bool:
    return (
        query.session in (None, task.session)
        and query.task in (None, task.task)
        and query.status in (None, task.status)
        and (not query.before or task.sequence < query.before)
    )


def _counts(call: Row, query: UsageQuery) -> bool:
    return (
        call["tenant"] == query.tenant
        and query.session in (None, call["session"])
        and str(call["day"]) >= query.since
    )


def _order(group: UsageSummary, query: UsageQuery) -> tuple[int, str]:
    size = 0 if query.by == "day" else group.usage.input + group.usage.output
    return (-size, group.key)


class MemoryLog:
    """`FactLog` over a list of facts in the order of their sequences."""

    def __init__(
        self, facts: Sequence[StoredFact] = (), in_flight: tuple[int, int] = (1, 0)
    ) -> None:
        self.facts = list(facts)
        self.in_flight = in_flight

    async def bounds(self) -> tuple[int, int]:
        """First and last sequence held."""
        return (self.facts[0].seq, self.facts[-1].seq) if self.facts else (1, 0)

    async def unsettled(self) -> tuple[int, int]:
        """What the test says is in flight."""
        return self.in_flight

    async def read(self, start: int, limit: int) -> Page:
        """Up to `limit` facts from `start` on."""
        found = tuple(fact for fact in self.facts if fact.seq >= start)[:limit]
        return Page(found, found[-1].seq + 1 if found else start)
