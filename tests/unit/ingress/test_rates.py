"""How much a caller may ask for, at one replica and at several."""

from __future__ import annotations

import pytest

from services.ingress.core.access.rates import (
    FAILURES,
    Failures,
    Rate,
    Usage,
    headers_of,
    overdrawn,
)
from shared.contracts.keys import Allowance


def passes(rate: Rate, per_minute: float, times: list[float]) -> int:
    passed = 0
    for now in times:
        if not rate.wait(per_minute, now):
            rate.take(per_minute, now)
            passed += 1
    return passed


def test_a_minutes_worth_at_once_then_one_each_second() -> None:
    rate = Rate()
    assert passes(rate, 60, [100.0] * 70) == 60
    assert rate.wait(60, 100.0) == pytest.approx(1.0)
    assert passes(rate, 60, [101.0] * 3) == 1


@pytest.mark.parametrize(("limit", "replicas"), [(60, 2), (10, 3), (1, 2)])
def test_replicas_together_let_no_more_through_than_the_limit_and_one_each(
    limit: int, replicas: int
) -> None:
    each = [passes(Rate(), limit / replicas, [5.0] * limit) for _ in range(replicas)]
    assert limit - replicas <= sum(each) <= limit + replicas


def test_an_answer_that_overdraws_is_waited_for() -> None:
    usage, allowed = Usage(), Allowance(tokens_per_minute=600)
    usage.tokens.take(600, 0.0, 1200)
    found = overdrawn(usage, allowed, 1, 0.0)
    assert found is not None
    assert (found.what, round(found.wait)) == ("tokens", 60)
    assert overdrawn(usage, allowed, 1, 61.0) is None


def test_headers_tell_what_is_left() -> None:
    usage, allowed = Usage(), Allowance(requests_per_minute=60)
    usage.requests.take(30, 0.0)
    assert headers_of(usage, allowed, 2, 0.0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "58",
        "x-ratelimit-reset-requests": "2.000s",
    }


def test_failures_are_bounded_and_forget_the_oldest() -> None:
    failures = Failures(remembered=2)
    assert [failures.count("a", 0.0) for _ in range(FAILURES)] == [0.0] * FAILURES
    assert failures.count("a", 0.0) > 0
    assert failures.count("b", 0.0) == 0
    failures.count("c", 0.0)
    assert len(failures) == 2
