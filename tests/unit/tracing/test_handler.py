"""When a trace is told, and to whom not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from services.tracing.handlers import TOO_OLD, Tracing
from shared.contracts.base import SessionRef
from shared.contracts.log import StoredFact
from shared.contracts.tasks import Parent, TaskSubmitted
from shared.errors import Transient
from shared.trace import Span, TraceContext
from tests.unit.tracing.test_spans import WHOLE, told

CLIENT = TraceContext("ab" * 16, "cd" * 8, sampled=False)


@dataclass
class Log:
    """The log as this service needs it, and the collector."""

    stored: Sequence[StoredFact]
    above: dict[str, StoredFact] = field(default_factory=dict)
    asked: list[tuple[str, TraceContext | None, str]] = field(default_factory=list)
    taken: list[Sequence[Span]] = field(default_factory=list)
    kept: bool = True
    away: bool = False

    async def facts(self, _ref: SessionRef, _task: str, _upto: int) -> Sequence[StoredFact]:
        return self.stored

    async def submission(self, _ref: SessionRef, task: str) -> StoredFact | None:
        return self.above.get(task)

    def keeps(self, trace_id: str, parent: TraceContext | None, name: str) -> bool:
        self.asked.append((trace_id, parent, name))
        return self.kept

    async def take(self, spans: Sequence[Span]) -> None:
        if self.away:
            raise Transient("tracing_stops", "away")
        self.taken.append(spans)


async def tell(log: Log, now: float = 20.0) -> None:
    await Tracing(log, log, lambda: now).ended(log.stored[-1])


async def test_a_trace_is_told_whole() -> None:
    log = Log(told(*WHOLE))
    await tell(log)
    assert [len(spans) for spans in log.taken] == [7]


async def test_what_is_not_kept_is_not_told() -> None:
    log = Log(told(*WHOLE, headers={"traceparent": str(CLIENT)}), kept=False)
    await tell(log)
    assert log.asked == [(CLIENT.trace_id, CLIENT, "invoke_agent helper")]
    assert not log.taken


async def test_a_collector_that_is_away_is_tried_again() -> None:
    log = Log(told(*WHOLE), away=True)
    with pytest.raises(Transient):
        await tell(log)


async def test_what_nobody_could_be_told_for_a_day_is_dropped() -> None:
    log = Log(told(*WHOLE), away=True)
    await tell(log, now=WHOLE[-1][0] + TOO_OLD + 1)
    assert not log.asked


async def test_what_was_deleted_is_not_told() -> None:
    log = Log(told(*WHOLE))
    done, log.stored = log.stored[-1], []
    await Tracing(log, log, lambda: 20.0).ended(done)
    assert not log.asked


async def test_whoever_was_asked_by_an_agent_is_kept_where_that_one_is() -> None:
    """However its own message came: its parent is a span of ours, and says nothing of sampling."""
    parent = Parent(session="s0", task="t0", step=1, call="c", name="ask_helper", depth=1)
    asked = msgspec.structs.replace(WHOLE[0][1], parent=parent)
    asking = told((1.0, TaskSubmitted(input="x")), headers={"traceparent": str(CLIENT)})[0]
    log = Log(told((10.0, asked), *WHOLE[1:]), {"t0": asking})
    await tell(log)
    assert [parent for _, parent, _ in log.asked] == [CLIENT]
