"""What the log says was used, counted on the accounts of a replica."""

from __future__ import annotations

import asyncio

import pytest

from services.ingress.adapters.accounts import Account, Accounts, Times
from services.ingress.adapters.bus import Link
from services.ingress.adapters.spending import Spending
from shared.contracts.base import SessionRef
from shared.contracts.facts import Completed, Done, Forked, Usage
from shared.contracts.keys import Allowance, NewKey
from shared.contracts.log import KEY_HEADER, StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.errors import MillraceError
from shared.telemetry import configure
from tests.fakes.keys import NOW, FakeKeys
from tests.fakes.ledger_log import inferred

LOG = configure("test", "error")
REF = SessionRef("acme", "s1")
TASK = TaskSubmitted(input="x")


class Case:
    """A replica that has heard all from the start."""

    def __init__(self, ring: FakeKeys, *allowed: Allowance) -> None:
        self.ring = ring
        self.keys = [ring.issue("acme", NewKey(allowance=one)).key.id for one in allowed]
        self.accounts = Accounts(ring, Allowance(), Times(lambda: NOW, lambda: 1000.0))
        self.spending = Spending(Link(LOG), self.accounts, LOG, asyncio.Event())
        for _, _, used in self.accounts.budgeted():
            used.spent.learn({})
        self.seq = 0

    async def hear(self, fact: object, kind: str, task: str = "t1", key: str = "") -> None:
        self.seq += 1
        headers = {KEY_HEADER: key} if key else {}
        stored = StoredFact(self.seq, NOW, REF, kind, "", task, fact, headers)  # type: ignore[arg-type]  # facts only
        await self.spending.count(stored)

    def spent(self, key: str = "") -> int:
        used = self.accounts.key(key) if key else self.accounts.tenant("acme")
        return used.spent.within("day", NOW)

    def refused(self, key: str = "") -> str:
        with pytest.raises(MillraceError) as found:
            Account(self.accounts, "acme", key).check()
        return found.value.code


async def test_the_steps_of_a_task_are_charged_to_its_key_and_tenant() -> None:
    case = Case(FakeKeys(), Allowance(budget_per_day=3_000), Allowance(budget_per_day=3_000))
    mine, other = case.keys
    await case.hear(TASK, "task", key=mine)
    await case.hear(inferred("t1", 0), "inferred")
    await case.hear(inferred("t1", 2), "inferred")
    await case.hear(inferred("t1", 2), "inferred")  # the first result of a step is billed
    assert (case.spent(), case.spent(mine), case.spent(other)) == (3_000, 3_000, 0)
    assert case.refused(mine) == "budget_exhausted"
    Account(case.accounts, "acme", other).check()


async def test_replicas_that_hear_the_same_tokens_count_them_once_together() -> None:
    ring = FakeKeys(replicas=2)
    ring.allowances["acme"] = Allowance(tokens_per_minute=220)
    case = Case(ring, Allowance())
    await case.hear(TASK, "task", key=case.keys[0])
    await case.hear(inferred("t1", 0), "inferred")  # 110 tokens
    Account(case.accounts, "acme", "").check()
    left = Account(case.accounts, "acme", "").headers()["x-ratelimit-remaining-tokens"]
    assert left == "110"
    await case.hear(inferred("t1", 2), "inferred")
    await case.hear(inferred("t1", 4), "inferred")
    assert case.refused() == "rate_limited"


async def test_forks_and_completions_name_their_key() -> None:
    case = Case(FakeKeys(), Allowance(budget_per_day=9_000))
    (key,) = case.keys
    fork = Forked(parent="s0", at=1, task="t1", step=2, key=key)
    await case.hear(fork, "forked")
    await case.hear(inferred("t1", 3), "inferred")
    await case.hear(Done(task="t1", status="completed"), "done")
    usage = Usage(input=1, output=1)
    fact = Completed(id="c1", model="nano", worker="w1", usage=usage, price=70, key=key)
    await case.hear(fact, "completed", "c1")
    assert (case.spent(key), case.spent()) == (1_570, 1_570)


async def test_a_task_of_nobodys_key_is_its_tenants() -> None:
    ring = FakeKeys()
    ring.allowances["acme"] = Allowance(budget_per_day=1_000)
    case = Case(ring, Allowance())
    await case.hear(inferred("t9", 0), "inferred", "t9")
    assert (case.spent(), case.refused()) == (1_500, "budget_exhausted")
