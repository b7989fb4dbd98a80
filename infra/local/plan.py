"""What runs and in which order: programs, their environment, restart delays. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NATS = "nats"
EDGE = ("ingress",)
SERVICES = ("sessions", "router", "inference", "tools", "retrieval", "ledger", *EDGE)
STABLE_AFTER = 20.0
"""A program that ran this long (seconds) was healthy: its next restart is quick again."""
_FIRST_DELAY, _LAST_DELAY = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class Program:
    """A program to keep running. Programs stop in rising order of `stage`."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stage: int = 1


def restart_delay(failures: int) -> float:
    """Seconds to wait before the restart after the n-th failure in a row (1 is the first)."""
    return min(_FIRST_DELAY * 2.0 ** min(max(failures, 1) - 1, 16), _LAST_DELAY)


def failures_after(previous: int, ran: float) -> int:
    """The count of failures in a row after a program ended that had run for `ran` seconds."""
    return 1 if ran >= STABLE_AFTER else previous + 1


def service_environment(
    inherited: Mapping[str, str], ours: Mapping[str, str], root: Path
) -> dict[str, str]:
    """The environment of a service: what we inherited, our own values on top.

    Output is unbuffered because a log must be complete when its writer is killed.
    """
    return {**inherited, **ours, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}


def service_programs(
    python: str, environment: Mapping[str, str], names: tuple[str, ...] = SERVICES
) -> tuple[Program, ...]:
    """Every service as a program; the edge stops first, so that nothing new comes in."""
    return tuple(
        Program(
            name,
            (python, "-m", f"services.{name}"),
            environment,
            stage=0 if name in EDGE else 1,
        )
        for name in names
    )


def stop_stages(programs: tuple[Program, ...]) -> list[list[str]]:
    """Names to stop, stage by stage; those of one stage stop together."""
    stages = sorted({program.stage for program in programs})
    return [[p.name for p in programs if p.stage == stage] for stage in stages]


def exit_reason(code: int) -> str:
    """What a return code says, in words."""
    return f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
