"""How much a caller may ask for: a generic cell rate algorithm, and bounds on what it remembers.

Time is an argument. A limit of 60 a minute lets 60 through at once and then one each second. With
several replicas each takes its share, which is the limit divided by how many there are
(decision record 0026).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from shared.contracts.keys import Allowance

WINDOW = 60.0
FAILURES = 20
"""Refused keys that an address may send at once; it gets one more every three seconds."""
_REMEMBERED = 4096
_NOTHING = 1e-9


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


@dataclass(frozen=True, slots=True)
class Limited:
    """Why not now."""

    what: str
    limit: int
    wait: float


def merged(*allowances: Allowance) -> Allowance:
    """The first one that says something about each limit."""

    def first(name: str) -> int:
        said = (getattr(one, name) for one in allowances)
        return next((value for value in said if value is not None), 0)

    return Allowance(
        requests_per_minute=first("requests_per_minute"),
        tokens_per_minute=first("tokens_per_minute"),
        concurrency=first("concurrency"),
    )


def share(limit: int | None, replicas: int) -> float:
    """This replica's part of a limit; 0 is none."""
    return (limit or 0) / max(1, replicas)


def objection(usage: Usage, allowed: Allowance, replicas: int, now: float) -> Limited | None:
    """Why a request may not begin now. A tenant may always have one running at each replica."""
    if (limit := allowed.concurrency) and usage.running >= max(1.0, share(limit, replicas)):
        return Limited("concurrency", limit, 1.0)
    for what, rate in (("requests", usage.requests), ("tokens", usage.tokens)):
        if limit := getattr(allowed, f"{what}_per_minute"):
            # what an answer will cost is not known yet: one that begins may overdraw its tokens,
            # and the next one waits
            wait = rate.wait(share(limit, replicas), now)
            if wait > _NOTHING:
                return Limited(what, limit, wait)
    return None


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
