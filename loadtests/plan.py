"""What the judging process gives the driving process, and what it gets back. Pure."""

from __future__ import annotations

import msgspec

from loadtests.figures import Book, Times
from loadtests.profiles import Profile
from loadtests.questions import Questions


class Tenant(msgspec.Struct, frozen=True):
    """In whose name a client comes; without a key, the system must trust the tenant's header."""

    name: str
    key: str = ""

    def __repr__(self) -> str:
        return f"Tenant({self.name!r})"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Goes through a pipe, because it may hold keys. The broker is found as every client does."""

    url: str
    nats: bool
    profile: Profile
    questions: Questions
    tenants: tuple[Tenant, ...]
    run: str
    """The run's own name: the names of its sessions and documents begin with it (but for those of
    responses, which name themselves)."""
    folder: str
    """Where the raw figures and Locust's report go."""


class Bare(msgspec.Struct):
    """Round trips with nothing in them: how fast the machine and the client are just now."""

    http: Times = msgspec.field(default_factory=Times)
    nats: Times = msgspec.field(default_factory=Times)
    bridge: Times = msgspec.field(default_factory=Times)
    """From a greenlet to the event loop's thread and back."""


class Phase(msgspec.Struct):
    """One of three: the floor before, the load, the floor after it."""

    book: Book = msgspec.field(default_factory=Book)
    bare: Bare = msgspec.field(default_factory=Bare)
    seconds: float = 0.0
    cpu: float = 0.0
    """Processor seconds that the client used."""


class Ends(msgspec.Struct):
    """What the log says of the tasks of the run; `watched` is false where no broker is known."""

    watched: bool = False
    tasks: int = 0
    steps: int = 0
    faults: tuple[str, ...] = ()


class Raw(msgspec.Struct, kw_only=True):
    """All that a run has measured."""

    before: Phase = msgspec.field(default_factory=Phase)
    load: Phase = msgspec.field(default_factory=Phase)
    after: Phase = msgspec.field(default_factory=Phase)
    users: int = 0
    """The most clients at the same time."""
    ends: Ends = msgspec.field(default_factory=Ends)
    crashes: tuple[str, ...] = ()
    """Errors of the load test itself."""
