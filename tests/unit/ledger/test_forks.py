"""A fork in the ledger: a task of its own, billed for its own steps."""

from __future__ import annotations

from services.ledger.adapters.memory import MemoryStore
from services.ledger.core import changes_of
from shared.contracts import facts as f
from shared.contracts.base import SessionRef
from shared.contracts.ledger import TasksQuery, UsageQuery
from tests.fakes.ledger_log import Recorder, inferred

CHILD = SessionRef("default", "f1")


async def test_a_fork_is_a_task_that_pays_for_itself() -> None:
    log, store = Recorder(), MemoryStore()
    log.submit("t1", 0.0)
    log.accept("t1", 0.1)
    usage = f.Usage(input=100, output=10)
    log.add(inferred("t1", 0, usage=usage), 0.2)
    origin = f.Forked(parent="s1", at=2, task="t1", step=0, agent="assistant")
    log.add(origin, 5.0, ref=CHILD)
    log.add(inferred("t1", 0, usage=f.Usage(input=7, output=3)), 5.5, ref=CHILD)
    await store.apply([change for fact in log.facts for change in changes_of(fact)], 5)
    [fork] = await store.tasks(TasksQuery(tenant="default", session="f1"))
    assert (fork.task, fork.agent, fork.status) == ("t1", "assistant", "running")
    assert fork.input == "fork of s1 at t1.0"
    assert fork.usage == f.Usage(input=7, output=3)
    rows = await store.usage(UsageQuery(tenant="default", by="session"))
    assert {row.key: row.usage.input for row in rows} == {"s1": 100, "f1": 7}
