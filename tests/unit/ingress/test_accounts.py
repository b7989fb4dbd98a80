"""What a request is counted on: its tenant, and its key where that has bounds of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from services.ingress.adapters.accounts import ACCOUNT, Account, Accounts, Times, check_account
from services.ingress.adapters.metered import Metered
from services.ingress.adapters.records import JOURNAL, Journal
from services.ingress.core.access.rates import Throttled
from shared.contracts.facts import Timings, Usage
from shared.contracts.keys import Allowance, NewKey
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.contracts.work import ChatMessage, DirectRequest
from shared.errors import Failure, MillraceError, Transient
from tests.fakes.keys import NOW, FakeKeys

ASKED = DirectRequest(
    id="c1", tenant="acme", model="nano", messages=(ChatMessage(role="user", content="x"),)
)
RESULT = DirectResult(
    content="y",
    tool_calls=(),
    finish="stop",
    usage=Usage(input=70, output=30),
    model="nano",
    worker="w1",
    timings=Timings(),
)


@pytest.fixture
def ring() -> FakeKeys:
    return FakeKeys()


@pytest.fixture
def accounts(ring: FakeKeys) -> Accounts:
    return Accounts(ring, Allowance(), Times(lambda: NOW, lambda: 1000.0))


def begun(accounts: Accounts, key: str = "", *, streams: bool = False) -> Account:
    account = Account(accounts, "acme", key)
    account.begin(streams=streams)
    return account


def refused(account: Account) -> str:
    with pytest.raises(MillraceError) as found:
        account.check()
    return found.value.code


def test_streams_and_requests_do_not_stand_in_each_others_way(
    ring: FakeKeys, accounts: Accounts
) -> None:
    ring.allowances["acme"] = Allowance(concurrency=1, max_streams=2)
    streams = [begun(accounts, streams=True), begun(accounts)]
    streams[1].stream()
    streams[1].stream()  # it is one already
    request = begun(accounts)
    with pytest.raises(Throttled, match="limit of 1 open requests"):
        begun(accounts)
    with pytest.raises(Throttled) as full:
        begun(accounts, streams=True)
    assert full.value.code == "too_many_streams"
    request.end()
    late = begun(accounts)
    with pytest.raises(Throttled):
        late.stream()
    late.end()
    streams[0].end()
    begun(accounts, streams=True).end()
    streams[1].end()
    used = accounts.tenant("acme")
    assert (used.running, used.streams) == (0, 0)


def test_each_replica_has_its_share_of_the_streams_and_one_at_least(
    ring: FakeKeys, accounts: Accounts
) -> None:
    ring.allowances["acme"], ring.replicas = Allowance(max_streams=3), 4
    begun(accounts, streams=True)
    with pytest.raises(Throttled, match="limit of 3 streams"):
        begun(accounts, streams=True)


def test_a_keys_own_bound_holds_beside_its_tenants(ring: FakeKeys, accounts: Accounts) -> None:
    key = ring.issue("acme", NewKey(allowance=Allowance(max_streams=1))).key.id
    other = ring.issue("acme").key.id
    begun(accounts, key, streams=True)
    begun(accounts, other, streams=True)
    with pytest.raises(Throttled):
        begun(accounts, key, streams=True)
    assert accounts.tenant("acme").streams == 2, "what was refused was not counted"


def test_used_up_tokens_refuse_work_and_nothing_else(ring: FakeKeys, accounts: Accounts) -> None:
    ring.allowances["acme"] = Allowance(tokens_per_minute=100)
    account = begun(accounts)
    account.charge(150)
    assert refused(account) == "rate_limited"
    looking = begun(accounts)
    assert looking.headers()["x-ratelimit-remaining-tokens"] == "0"


def test_limits_that_change_hold_for_a_socket_that_is_open(
    ring: FakeKeys, accounts: Accounts
) -> None:
    account = begun(accounts, streams=True)
    accounts.spend("acme", "", 500, NOW)
    account.check()
    ring.issue("acme")
    ring.allowances["acme"] = Allowance(budget_per_day=400)
    assert refused(account) == "budget_exhausted"
    ring.allowances["acme"] = Allowance(budget_per_day=600)
    assert refused(account) == "budget_unknown", "what was spent before it began to count"
    for tenant, key, used in accounts.budgeted():
        assert (tenant, key) == ("acme", "")
        used.spent.learn({})
    account.check()


def test_a_budget_of_a_key_is_its_own(ring: FakeKeys, accounts: Accounts) -> None:
    poor = ring.issue("acme", NewKey(allowance=Allowance(budget_per_month=10))).key.id
    rich = ring.issue("acme").key.id
    accounts.key(poor).spent.learn({})
    accounts.spend("acme", rich, 100, NOW)
    begun(accounts, poor).check()
    accounts.spend("acme", poor, 10, NOW)
    assert refused(begun(accounts, poor)) == "budget_exhausted"
    begun(accounts, rich).check()
    (budget,) = begun(accounts, poor).budgets()
    assert (budget.whose, budget.period, budget.spent) == ("key", "month", 10)


class Scripted:
    """Completions that end as a test says."""

    def __init__(self, *events: DirectEvent, error: Transient | None = None) -> None:
        self.events, self.error = events, error

    async def complete(self, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
        for event in self.events:
            yield event
        if self.error is not None:
            raise self.error


async def journal_of(completions: Scripted) -> bool:
    """Whether somebody else writes down what became of it."""
    journal = Journal()
    token = JOURNAL.set(journal)
    try:
        async for _ in Metered(completions).complete(ASKED):
            pass
    except Transient:
        pass
    finally:
        JOURNAL.reset(token)
    return journal.handed


FAILURE = Failure(code="no_worker", family="transient")


@pytest.mark.parametrize(
    ("completions", "handed"),
    [
        (Scripted(DirectEvent(done=RESULT)), True),
        (Scripted(DirectEvent(error=FAILURE)), False),
        (Scripted(DirectEvent(error=FAILURE, recorded=True)), True),
        (Scripted(DirectEvent(error=FAILURE, done=RESULT)), True),
        (Scripted(error=Transient("no_responders", "no router runs")), False),
    ],
)
async def test_what_no_worker_had_is_left_to_the_ingress(
    completions: Scripted, handed: bool
) -> None:
    assert await journal_of(completions) is handed


async def test_a_completion_is_charged_and_the_next_one_refused(
    ring: FakeKeys, accounts: Accounts
) -> None:
    ring.allowances["acme"] = Allowance(tokens_per_minute=60)
    metered = Metered(Scripted(DirectEvent(done=RESULT)))
    token = ACCOUNT.set(begun(accounts))
    try:
        assert [event async for event in metered.complete(ASKED)]
        with pytest.raises(Throttled) as found:
            metered.complete(ASKED)
        with pytest.raises(Throttled):
            check_account()
    finally:
        ACCOUNT.reset(token)
    assert found.value.as_failure().retry_after == pytest.approx(41.0)
    check_account()
