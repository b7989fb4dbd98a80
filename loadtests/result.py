"""What a run comes to: the content of `result.json`. Pure."""

from __future__ import annotations

import msgspec

VERSION = 1


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one kind, in milliseconds, beside the floor of the same run.

    `stretch` is the median over the floor. `median` and `tail` are the median and the 95th
    percentile in queues (see `profiles.Limits`). What cannot be told is absent.
    """

    floor_ms: float | None
    p50_ms: float
    p95_ms: float
    p99_ms: float
    most_ms: float
    stretch: float | None
    median: float | None
    tail: float | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. `cost` is its floor in bare round trips."""

    operation: str
    way: str
    count: int
    failed: int
    refused: int
    per_second: float
    tokens: int
    steps: int
    cost: float | None
    times: Measure | None
    first: Measure | None
    gaps: Measure | None


class TenantLine(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant; `stretch` is what its operations took over what they take alone."""

    tenant: str
    count: int
    failed: int
    stretch: float | None


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """The load test's own part: of a processor core, of an operation, and of a round trip."""

    core: float
    cpu_ms: float
    bridge_ms: float | None


class BareLine(msgspec.Struct, frozen=True, kw_only=True):
    """A round trip with nothing in it, in milliseconds: alone and under the load."""

    way: str
    floor_ms: float | None
    load_ms: float | None


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """The run as a whole; `gain` and `stretch` as in `profiles.Limits`."""

    operations: int
    failed: int
    refused: int
    per_second: float
    tokens_per_second: float
    steps_per_second: float
    gain: float | None
    stretch: float | None
    tasks: int
    watched: bool


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that does not hold, and where."""

    rule: str
    where: str
    value: float
    limit: float
    text: str


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why operations failed."""

    operation: str
    reason: str
    count: int


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What was run, and on what."""

    run: str
    profile: str
    curve: str
    users: int
    seconds: float
    tenants: int
    mix: dict[str, int]
    url: str
    cores: int
    started: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `notes` are worth knowing and fail nothing."""

    version: int = VERSION
    setting: Setting
    passed: bool
    sums: Sums
    lines: tuple[Line, ...]
    tenants: tuple[TenantLine, ...]
    bare: tuple[BareLine, ...]
    client: Client
    breaches: tuple[Breach, ...]
    reasons: tuple[Reason, ...]
    notes: tuple[str, ...]
