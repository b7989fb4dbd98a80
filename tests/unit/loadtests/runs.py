"""Raw figures of runs that never were, for what judges and shows them."""

from __future__ import annotations

import msgspec

from loadtests.plan import Ends, Phase, Raw
from loadtests.profiles import PROFILES, Profile, only
from loadtests.result import Result, Setting
from loadtests.took import Took
from loadtests.verdict import judge

PROFILE = only(PROFILES["short"], ("chat", "chat_stream"))
TENANTS = ("a", "b")


def phase(seconds: float, count: int, bare: float = 0.001, length: float = 10.0) -> Phase:
    """Each operation of each tenant took so long, so many times."""
    found = Phase(seconds=length, cpu=length / 10)
    for tenant in TENANTS:
        for operation in PROFILE.mix:
            stream = operation == "chat_stream"
            took = Took(seconds, seconds / 2 if stream else None, 0.01 if stream else None, 5)
            for _ in range(count):
                found.book.of(operation, tenant).took(took)
    for times in (found.bare.http, found.bare.nats, found.bare.bridge):
        times.add(bare)
    return found


def raw(seconds: float = 0.4, users: int = 4, count: int = 25) -> Raw:
    """Four clients that take 0.4 s for what one alone does in 0.1 s: exactly one queue."""
    return Raw(
        before=phase(0.1, 4),
        load=phase(seconds, count),
        after=phase(0.05, 4),
        users=users,
        ends=Ends(watched=True, tasks=7, steps=30),
    )


def setting(**changes: object) -> Setting:
    """What was run."""
    known = Setting(
        run="load_1", profile="short", curve="steady", users=4, seconds=10.0, tenants=2,
        mix=PROFILE.mix, url="http://host", cores=2, started="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return msgspec.structs.replace(known, **changes)


def judged(found: Raw | None = None, profile: Profile = PROFILE) -> Result:
    """A run without a baseline."""
    return judge(found or raw(), profile, setting(), None)
