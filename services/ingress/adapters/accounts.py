"""What every tenant and key uses at this replica, and what a request is counted on.

A request's context carries its account to wherever work begins: an answer's stream and a socket run
in tasks that inherit it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from services.ingress.core.access.budgets import Budget, budgets_of, check_budget
from services.ingress.core.access.rates import (
    Limited,
    Throttled,
    Usage,
    crammed,
    crowded,
    headers_of,
    merged,
    overdrawn,
    share,
    too_often,
)
from services.ingress.ports import Ring
from shared import clock
from shared.contracts.keys import Allowance

NOTHING_SAID = Allowance()
Part = tuple[Usage, Allowance]
"""What is used, and what may be."""


@dataclass(frozen=True, slots=True)
class Times:
    """The two clocks."""

    now: Callable[[], float] = clock.now
    monotonic: Callable[[], float] = clock.monotonic


class Accounts:
    """All of them. Limits may change at any time, so they are looked up whenever they are used."""

    def __init__(self, ring: Ring, defaults: Allowance, times: Times | None = None) -> None:
        self._ring, self._defaults = ring, defaults
        self.times = times or Times()
        self._tenants: dict[str, Usage] = {}
        self._keys: dict[str, Usage] = {}
        self._merged: dict[str, tuple[Allowance, Allowance]] = {}

    @property
    def replicas(self) -> int:
        """How many share the limits."""
        return self._ring.replicas

    def of(self, tenant: str, key: str) -> list[Part]:
        """The tenant's, and the key's where it has bounds of its own; both must have room."""
        found = [(self.tenant(tenant), self.allowed(tenant))]
        own = self._bounds_of(key)
        if own != NOTHING_SAID:
            found.append((self.key(key), own))
        return found

    def tenant(self, tenant: str) -> Usage:
        """What a tenant uses."""
        used = self._tenants.get(tenant)
        if used is None:
            used = self._tenants[tenant] = Usage()
        return used

    def key(self, key: str) -> Usage:
        """What a key uses."""
        used = self._keys.get(key)
        if used is None:
            used = self._keys[key] = Usage()
        return used

    def allowed(self, tenant: str) -> Allowance:
        """What a tenant may use."""
        special = self._ring.allowances.get(tenant, NOTHING_SAID)
        known = self._merged.get(tenant)
        if known is None or known[0] is not special:
            known = self._merged[tenant] = (special, merged(special, self._defaults))
        return known[1]

    def _bounds_of(self, key: str) -> Allowance:
        known = self._ring.keys.get(key)
        return NOTHING_SAID if known is None else known.allowance

    def budgeted(self) -> Iterator[tuple[str, str, Usage]]:
        """Tenant, key (empty: the tenant itself) and usage of all that have a budget."""
        for key in list(self._ring.keys.values()):
            if _has_budget(key.allowance):
                yield key.tenant, key.id, self.key(key.id)
        for tenant in {key.tenant for key in self._ring.keys.values()}:
            if _has_budget(self.allowed(tenant)):
                yield tenant, "", self.tenant(tenant)

    def metered(self) -> bool:
        """Whether anybody's use is bounded by what it turns out to cost."""
        tenants = {key.tenant for key in self._ring.keys.values()}
        allowed = [self.allowed(tenant) for tenant in tenants]
        allowed += [key.allowance for key in self._ring.keys.values()]
        return any(one.tokens_per_minute or _has_budget(one) for one in allowed)

    def bounded_key(self, tenant: str) -> bool:
        """Whether a key of the tenant has bounds of its own."""
        return any(
            key.tenant == tenant and key.allowance != NOTHING_SAID
            for key in list(self._ring.keys.values())
        )

    def charge(self, tenant: str, key: str, tokens: float) -> None:
        """Count tokens that were used."""
        moment, replicas = self.times.monotonic(), self.replicas
        for usage, allowed in self.of(tenant, key):
            if limit := allowed.tokens_per_minute:
                usage.tokens.take(share(limit, replicas), moment, tokens)

    def spend(self, tenant: str, key: str, price: int, time: float) -> None:
        """Count money: every replica hears of all of it."""
        self.tenant(tenant).spent.add(price, time)
        if key:
            self.key(key).spent.add(price, time)

    def budgets(self, tenant: str, key: str) -> list[Budget]:
        """Those that bound a caller."""
        now = self.times.now()
        tenants, *own = self.of(tenant, key)
        found = budgets_of("tenant", tenants[0].spent, tenants[1], now)
        for usage, allowed in own:
            found += budgets_of("key", usage.spent, allowed, now)
        return found


def _has_budget(allowed: Allowance) -> bool:
    return bool(allowed.budget_per_day or allowed.budget_per_month)


class Account:
    """What one request is counted on."""

    __slots__ = ("_accounts", "_key", "_parts", "_streams", "_tenant")

    def __init__(self, accounts: Accounts, tenant: str, key: str) -> None:
        self._accounts, self._tenant, self._key = accounts, tenant, key
        self._parts = accounts.of(tenant, key)
        self._streams = False

    def begin(self, *, streams: bool = False) -> None:
        """The request comes in; `streams` where all that it can be is a stream.

        Raises:
            Throttled: `rate_limited`, `too_many_streams`.
        """
        moment, replicas = self._accounts.times.monotonic(), self._accounts.replicas
        for usage, allowed in self._parts:
            if streams:
                self._refuse(crowded(usage, allowed, replicas))
            else:
                self._refuse(crammed(usage, allowed, replicas))
            self._refuse(too_often(usage, allowed, replicas, moment))
        self._streams = streams
        for usage, allowed in self._parts:
            if streams:
                usage.streams += 1
            else:
                usage.running += 1
            if limit := allowed.requests_per_minute:
                usage.requests.take(share(limit, replicas), moment)

    def end(self) -> None:
        """Its answer is complete, or its client has gone."""
        for usage, _ in self._parts:
            if self._streams:
                usage.streams -= 1
            else:
                usage.running -= 1

    def stream(self) -> None:
        """It is a stream: it stands in the way of no request. Harmless when repeated.

        Raises:
            Throttled: `too_many_streams`.
        """
        if self._streams:
            return
        replicas = self._accounts.replicas
        for usage, allowed in self._parts:
            self._refuse(crowded(usage, allowed, replicas))
        self._streams = True
        for usage, _ in self._parts:
            usage.running -= 1
            usage.streams += 1

    def check(self) -> None:
        """It is about to cause work. A socket asks again and again, so limits are looked up anew.

        Raises:
            Throttled: `rate_limited`, for tokens.
            Transient: `budget_exhausted`, `budget_unknown`.
        """
        accounts = self._accounts
        moment, replicas = accounts.times.monotonic(), accounts.replicas
        for usage, allowed in accounts.of(self._tenant, self._key):
            self._refuse(overdrawn(usage, allowed, replicas, moment))
        now = accounts.times.now()
        for budget in self.budgets():
            check_budget(budget, now)

    def budgets(self) -> list[Budget]:
        """Those that bound it."""
        return self._accounts.budgets(self._tenant, self._key)

    def charge(self, tokens: int) -> None:
        """What it caused used so much."""
        self._accounts.charge(self._tenant, self._key, tokens)

    def headers(self) -> dict[str, str]:
        """What is left, for the answer."""
        moment, found = self._accounts.times.monotonic(), dict[str, str]()
        for usage, allowed in self._parts:
            found.update(headers_of(usage, allowed, self._accounts.replicas, moment))
        return found

    def _refuse(self, why: Limited | None) -> None:
        if why is not None:
            raise Throttled(why, self.headers())


ACCOUNT: ContextVar[Account | None] = ContextVar("millrace_account", default=None)


def as_stream() -> None:
    """The answer to the request of this context will be a stream: count it as one, or refuse it.

    Only for what shows durable work. A stateless completion that streams is a request like others:
    its bound is that of the work that it causes.

    Raises:
        Throttled: as `Account.stream`.
    """
    account = ACCOUNT.get()
    if account is not None:
        account.stream()


def own_budgets() -> list[Budget]:
    """The budgets that bound the caller of this context."""
    account = ACCOUNT.get()
    return [] if account is None else account.budgets()


def check_account() -> None:
    """Refuse work that the caller of this context may not cause now; without keys nobody is.

    Raises:
        Throttled, Transient: as `Account.check`.
    """
    account = ACCOUNT.get()
    if account is not None:
        account.check()
