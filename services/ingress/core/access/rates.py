"""How much a caller may ask for: a generic cell rate algorithm, and bounds on what it remembers.

Time is an argument. A limit of 60 a minute lets 60 through at once and then one each second. With
several replicas each takes its share, which is the limit divided by how many there are
(decision record 0026).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field

from services.ingress.core.access.budgets import Spent
from shared.contracts.keys import Allowance
from shared.errors import Transient

WINDOW = 60.0
FAILURES = 20
"""Refused keys that an address may send at once; it gets one more every three seconds."""
_REMEMBERED = 4096
_NOTHING = 1e-9
_RATED = ("requests", "tokens")
_AGAIN = 1.0
"""Seconds until one of those that run may have ended."""


@dataclass(slots=True)
class Rate:
    """One limit of one caller. `full_at` is when nothing would be used any more."""

    full_at: float = 0.0

    def wait(self, per_minute: float, now: float, amount: float = 1.0) -> float:
        """Seconds until `amount` fits; 0 where it does now."""
        cost = WINDOW * amount / per_minute
        # a share may be less than one request a minute: one at a time must fit all the same
        return max(0.0, self._used(now) + cost - max(WINDOW, cost))

    def take(self, per_minute: float, now: float, amount: float = 1.0) -> None:
        """Count it, also beyond the limit: what was used up is waited for."""
        self.full_at = now + self._used(now) + WINDOW * amount / per_minute

    def remaining(self, per_minute: float, now: float) -> int:
        """How much fits now."""
        return max(0, int((WINDOW - self._used(now)) * per_minute / WINDOW + 1e-6))

    def reset(self, now: float) -> float:
        """Seconds until all of it fits."""
        return self._used(now)

    def _used(self, now: float) -> float:
        return max(0.0, self.full_at - now)


@dataclass(slots=True)
class Usage:
    """What a tenant or a key uses at this replica."""

    requests: Rate = field(default_factory=Rate)
    tokens: Rate = field(default_factory=Rate)
    running: int = 0
    """Requests whose answer is not complete, but for `streams`."""
    streams: int = 0
    """Answers that show durable work for as long as it takes, and sockets."""
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True, slots=True)
class Limited:
    """Why not now."""

    what: str
    limit: int
    wait: float


class Throttled(Transient):
    """Not now, but later; `headers` belong to the answer."""

    def __init__(self, why: Limited, headers: dict[str, str]) -> None:
        unit = "per minute" if why.what in _RATED else "at the same time"
        super().__init__(
            "too_many_streams" if why.what == "streams" else "rate_limited",
            f"the limit of {why.limit} {why.what} {unit} is used up; "
            f"try again in {math.ceil(why.wait)} s",
            retry_after=why.wait,
        )
        self.headers = headers


def merged(*allowances: Allowance) -> Allowance:
    """The first one that says something about each limit."""

    def first(name: str) -> int:
        said = (getattr(one, name) for one in allowances)
        return next((value for value in said if value is not None), 0)

    return Allowance(**{name: first(name) for name in Allowance.__struct_fields__})


def share(limit: int | None, replicas: int) -> float:
    """This replica's part of a limit; 0 is none."""
    return (limit or 0) / max(1, replicas)


def no_room(running: int, limit: int | None, replicas: int) -> bool:
    """Whether one more is too much here. A tenant may always have one at each replica."""
    return bool(limit) and running >= max(1.0, share(limit, replicas))


def crammed(usage: Usage, allowed: Allowance, replicas: int) -> Limited | None:
    """Why a request may not begin beside those that run."""
    if no_room(usage.running, allowed.concurrency, replicas):
        return Limited("open requests", allowed.concurrency or 0, _AGAIN)
    return None


def crowded(usage: Usage, allowed: Allowance, replicas: int) -> Limited | None:
    """Why a stream may not begin now."""
    if no_room(usage.streams, allowed.max_streams, replicas):
        return Limited("streams", allowed.max_streams or 0, _AGAIN)
    return None


def too_often(usage: Usage, allowed: Allowance, replicas: int, now: float) -> Limited | None:
    """Why a request may not begin so soon after the others."""
    return _used_up("requests", usage.requests, allowed.requests_per_minute, replicas, now)


def overdrawn(usage: Usage, allowed: Allowance, replicas: int, now: float) -> Limited | None:
    """Why a request may not cause work now.

    What it will cost is not known yet: one that begins may overdraw the tokens, the next one waits.
    """
    return _used_up("tokens", usage.tokens, allowed.tokens_per_minute, replicas, now)


def _used_up(what: str, rate: Rate, limit: int | None, replicas: int, now: float) -> Limited | None:
    wait = rate.wait(share(limit, replicas), now) if limit else 0.0
    return Limited(what, limit or 0, wait) if wait > _NOTHING else None


def headers_of(usage: Usage, allowed: Allowance, replicas: int, now: float) -> dict[str, str]:
    """The usual headers. What remains is what remains here, times the replicas."""
    found: dict[str, str] = {}
    for what in ("requests", "tokens"):
        limit = getattr(allowed, f"{what}_per_minute")
        if not limit:
            continue
        rate: Rate = getattr(usage, what)
        left = rate.remaining(share(limit, replicas), now) * max(1, replicas)
        found[f"x-ratelimit-limit-{what}"] = str(limit)
        found[f"x-ratelimit-remaining-{what}"] = str(min(limit, left))
        found[f"x-ratelimit-reset-{what}"] = f"{rate.reset(now):.3f}s"
    return found


class Failures:
    """Refused keys by address; forgets the address that was quiet for longest."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._rates: OrderedDict[str, Rate] = OrderedDict()
        self._remembered = remembered

    def count(self, address: str, now: float) -> float:
        """Note one more; seconds that the address should wait, 0 while it is below the bound."""
        rate = self._rates.setdefault(address, Rate())
        self._rates.move_to_end(address)
        if len(self._rates) > self._remembered:
            self._rates.popitem(last=False)
        wait = rate.wait(FAILURES, now)
        if not wait:
            rate.take(FAILURES, now)
        return wait

    def __len__(self) -> int:
        return len(self._rates)
