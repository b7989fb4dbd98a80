"""How much money a caller may spend in a day and in a month, and how much it has. Pure.

Money is counted when a model call has ended, on the UTC day on which the log stored its result: as
the bill does. What runs when a budget is used up goes on (decision record 0031).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from shared.contracts.keys import Allowance
from shared.errors import Transient
from shared.models import amount

Period = Literal["day", "month"]
PERIODS: tuple[Period, ...] = ("day", "month")


@dataclass(slots=True)
class Spent:
    """What one caller has spent, by UTC day.

    Until `known` it holds only what was seen since this replica began to count.
    """

    days: dict[str, int] = field(default_factory=dict)
    known: bool = False

    def add(self, price: int, time: float) -> None:
        """Count one call."""
        day = day_of(time)
        if day not in self.days:
            self._forget(day)
        self.days[day] = self.days.get(day, 0) + price

    def learn(self, days: Mapping[str, int]) -> None:
        """Add what was spent before; once."""
        for day, price in days.items():
            self.days[day] = self.days.get(day, 0) + price
        self.known = True

    def within(self, period: Period, time: float) -> int:
        """What was spent in the day or month of a time, as far as this replica knows."""
        day = day_of(time)
        if period == "day":
            return self.days.get(day, 0)
        return sum(price for one, price in self.days.items() if one[:7] == day[:7])

    def _forget(self, day: str) -> None:
        """Months before the one of `day` matter to nobody any more."""
        for old in [one for one in self.days if one[:7] < day[:7]]:
            del self.days[old]


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget as it stands. `whose` it is: the tenant's, or the key's own."""

    whose: Literal["tenant", "key"]
    period: Period
    limit: int
    spent: int
    resets: float
    """Epoch seconds."""
    known: bool = True

    @property
    def left(self) -> int:
        """What may still be spent."""
        return max(0, self.limit - self.spent)


class Exhausted(Transient):
    """No money is left until the period ends; repeating the request before that is in vain."""

    def __init__(self, budget: Budget, now: float) -> None:
        when = datetime.fromtimestamp(budget.resets, UTC).isoformat().replace("+00:00", "Z")
        super().__init__(
            "budget_exhausted",
            f"the {budget.whose}'s budget of {amount(budget.limit)} a {budget.period} is used up; "
            f"it begins anew at {when}",
            retry_after=budget.resets - now,
        )


def budgets_of(
    whose: Literal["tenant", "key"], spent: Spent, allowed: Allowance, now: float
) -> list[Budget]:
    """The budgets that a caller has."""
    limits: dict[Period, int | None] = {
        "day": allowed.budget_per_day,
        "month": allowed.budget_per_month,
    }
    return [
        Budget(whose, period, limit, spent.within(period, now), ends(period, now), spent.known)
        for period, limit in limits.items()
        if limit
    ]


def check_budget(budget: Budget, now: float) -> None:
    """Refuse work that nobody pays for.

    Raises:
        Exhausted: `budget_exhausted`.
        Transient: `budget_unknown` until it is known what was spent before: it fails closed.
    """
    if budget.spent >= budget.limit:
        raise Exhausted(budget, now)
    if not budget.known:
        raise Transient(
            "budget_unknown",
            "the ledger has not told yet what was spent of the budget; is it running?",
            retry_after=2.0,
        )


def day_of(time: float) -> str:
    """The UTC day of a time, as the bill writes it."""
    return datetime.fromtimestamp(time, UTC).date().isoformat()


def month_of(time: float) -> str:
    """The first day of the UTC month of a time."""
    return datetime.fromtimestamp(time, UTC).date().replace(day=1).isoformat()


def ends(period: Period, time: float) -> float:
    """The UTC midnight at which a period that holds a time is over."""
    moment = datetime.fromtimestamp(time, UTC)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return (day + timedelta(days=1)).timestamp()
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp()
