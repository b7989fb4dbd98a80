"""Money by day and month, and what a client is told when there is none left."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.ingress.core.access.budgets import (
    Budget,
    Exhausted,
    Spent,
    budgets_of,
    check_budget,
    ends,
)
from services.ingress.core.http.problems import problem_of
from shared.contracts.keys import Allowance
from shared.errors import Transient


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOON = at("2026-02-28T12:00:00")
BOTH = Allowance(budget_per_day=100, budget_per_month=1000)


def test_a_day_is_a_utc_day_and_a_month_the_sum_of_its_days() -> None:
    spent = Spent()
    spent.add(5, at("2026-02-27T23:59:59.9"))
    spent.add(7, NOON)
    assert (spent.within("day", NOON), spent.within("month", NOON)) == (7, 12)
    spent.add(1, at("2026-03-01T00:00:00"))
    march = at("2026-03-01T08:00:00")
    assert (spent.within("day", march), spent.within("month", march)) == (1, 1)
    assert list(spent.days) == ["2026-03-01"], "what nobody asks for any more is forgotten"


def test_what_was_spent_before_is_added_to_what_was_seen_since() -> None:
    spent = Spent()
    spent.add(7, NOON)
    spent.learn({"2026-02-01": 100, "2026-02-28": 3})
    assert (spent.within("day", NOON), spent.within("month", NOON)) == (10, 110)
    assert spent.known


@pytest.mark.parametrize(
    ("moment", "day", "month"),
    [
        ("2026-02-28T12:00:00", "2026-03-01T00:00:00", "2026-03-01T00:00:00"),
        ("2026-12-31T23:59:59", "2027-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("2026-01-01T00:00:00", "2026-01-02T00:00:00", "2026-02-01T00:00:00"),
    ],
)
def test_periods_end_at_midnight_utc(moment: str, day: str, month: str) -> None:
    assert (ends("day", at(moment)), ends("month", at(moment))) == (at(day), at(month))


def test_the_last_call_may_overdraw_and_the_next_one_is_refused() -> None:
    spent = Spent(known=True)
    spent.add(99, NOON)
    for budget in budgets_of("key", spent, BOTH, NOON):
        check_budget(budget, NOON)
    spent.add(50, NOON)
    day, month = budgets_of("key", spent, BOTH, NOON)
    assert (day.left, month.left) == (0, 851)
    check_budget(month, NOON)
    with pytest.raises(Exhausted) as refused:
        check_budget(day, NOON)
    assert refused.value.as_failure().retry_after == 12 * 3600
    assert "2026-03-01T00:00:00Z" in refused.value.detail


def test_an_unknown_past_fails_closed() -> None:
    (budget,) = budgets_of("tenant", Spent(), Allowance(budget_per_day=100), NOON)
    with pytest.raises(Transient, match="budget_unknown"):
        check_budget(budget, NOON)


def test_no_budget_is_no_bound() -> None:
    assert budgets_of("tenant", Spent(), Allowance(budget_per_day=0), NOON) == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/chat/completions", "insufficient_quota"), ("/v1/messages", "billing_error")],
)
def test_clients_know_it_by_their_own_word_and_do_not_repeat_it(path: str, kind: str) -> None:
    budget = Budget("tenant", "month", 100_000_000, 100_000_000, NOON + 30.5)
    problem = problem_of(Exhausted(budget, NOON).as_failure(), path, "")
    error = problem.body["error"]
    assert isinstance(error, dict)
    assert (problem.status, error["type"], error["code"]) == (429, kind, "budget_exhausted")
    assert (problem.headers["Retry-After"], problem.headers["x-should-retry"]) == ("31", "false")
    assert "budget of 1.00 a month" in str(error["message"])
