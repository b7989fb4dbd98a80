"""The profiles of load, as data: who comes when, what they do, and what is still good enough."""

from __future__ import annotations

import math

import msgspec

from loadtests.operations import OPERATIONS
from loadtests.shapes import CURVES, CurveName
from shared.errors import Permanent


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What fails a run. All of it is relative to the floor of the same run, none is a time.

    `queue` is the time that a client would need if all clients stood in one line and were served
    one after the other: its own floor, and one average floor for everybody else.
    """

    failed: float = 0.0
    """Share of the operations that may fail: a wrong answer is a failure."""
    refused: float = 0.0
    """Share that may be refused under overload (429, 503)."""
    median: float = 1.5
    """The median of an operation, of its first token and of its longest pause, in queues."""
    tail: float = 4.0
    """The same at the 95th percentile."""
    gain: float = 0.5
    """Work done per second, in seconds of one client alone: 1 is what one client gets done."""
    spread: float = 3.0
    """The slowest tenant's stretch over the fastest's."""
    baseline: float = 2.5
    """How many times worse than the baseline a ratio may be."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """`mix` says how often an operation comes; `pause` is the time between two of a client."""

    name: str
    about: str
    curve: CurveName
    users: int
    seconds: float
    mix: dict[str, int]
    tenants: int = 1
    pause: float = 0.05
    samples: int = 4
    """Of each operation for the floor, before and after the load."""
    limits: Limits = Limits()


EVERYTHING = {name: 3 if name in {"nats_task", "chat_stream"} else 1 for name in OPERATIONS}
DURABLE = {"nats_task": 4, "agent_stream": 2, "task_wait": 2, "task_events": 2, "response": 1}

_ALL = (
    Profile(
        name="short",
        about="everything at once for a minute: what `make load` runs",
        curve="steady",
        users=5,
        seconds=45,
        mix=EVERYTHING,
        tenants=2,
        limits=Limits(median=2.0, tail=5.0, gain=0.4, baseline=3.0),
    ),
    Profile(
        name="steady",
        about="everything, evenly, for five minutes",
        curve="steady",
        users=16,
        seconds=300,
        mix=EVERYTHING,
    ),
    Profile(
        name="ramp",
        about="ever more clients, to see where it bends",
        curve="ramp",
        users=64,
        seconds=300,
        mix=EVERYTHING,
        limits=Limits(refused=0.5),
    ),
    Profile(
        name="spike",
        about="a few clients, five times as many for a fifth of the time, a few again",
        curve="spike",
        users=60,
        seconds=180,
        mix=EVERYTHING,
        limits=Limits(refused=0.5),
    ),
    Profile(
        name="soak",
        about="durable work for four hours: leaks, growth, what only time shows",
        curve="soak",
        users=12,
        seconds=4 * 3600,
        mix=DURABLE,
        pause=0.5,
        samples=10,
        limits=Limits(gain=0.2),
    ),
    Profile(
        name="tenants",
        about="eight tenants side by side: nobody may suffer from the others more than they do",
        curve="steady",
        users=24,
        seconds=180,
        mix=EVERYTHING,
        tenants=8,
        limits=Limits(spread=2.0),
    ),
)
PROFILES = {profile.name: profile for profile in _ALL}


def checked(profile: Profile) -> Profile:
    """A profile that can be run.

    Raises:
        Permanent: `invalid_profile`, with the field.
    """
    faults = {
        "curve": profile.curve not in CURVES,
        "users": profile.users < 1,
        "seconds": not 0 < profile.seconds < math.inf,
        "mix": not profile.mix or any(weight < 1 for weight in profile.mix.values()),
        "tenants": profile.tenants < 1,
        "pause": not 0 <= profile.pause < math.inf,
        "samples": profile.samples < 1,
    }
    for field, wrong in faults.items():
        if wrong:
            text = f"{field} of {profile.name} cannot be {getattr(profile, field)!r}"
            raise Permanent("invalid_profile", text, field=field)
    if unknown := sorted(set(profile.mix) - set(OPERATIONS)):
        text = f"no operation {', '.join(unknown)}; there are {', '.join(OPERATIONS)}"
        raise Permanent("unknown_operation", text, field="mix")
    return profile


def only(profile: Profile, names: tuple[str, ...]) -> Profile:
    """The profile with these operations of its mix; those it lacks come in with weight 1."""
    mix = {name: profile.mix.get(name, 1) for name in names}
    return msgspec.structs.replace(profile, mix=mix)


def start_of(number: int, length: int) -> int:
    """Where the n-th client begins its first round, far from where its neighbours do."""
    return number * math.ceil(length * 0.382) % length


def rotation(mix: dict[str, int]) -> tuple[str, ...]:
    """One round of the mix: each name as often as it weighs, spread as evenly as it goes.

    Clients walk through it in order, so a short run does everything; chance might not.
    """
    places = [
        ((turn + 0.5) / weight, place, name)
        for place, (name, weight) in enumerate(mix.items())
        for turn in range(weight)
    ]
    return tuple(name for _, _, name in sorted(places))
