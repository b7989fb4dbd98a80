"""What `doctor` found: results of checks and what they mean together (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "warning", "failed"]
MIN_PYTHON = (3, 12)
MIN_SERVER = (2, 15)
LOW_DISK = 2_000_000_000
NO_DISK = 200_000_000
DAY = 24 * 3600.0
SHORT = 30 * DAY
"""Whoever makes certificates here makes them anew at a start within 60 days of their end."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check: what was looked at, what was found, and how to mend it."""

    name: str
    outcome: Outcome
    found: str
    fix: str = ""


def verdict(checks: Iterable[Check]) -> bool:
    """Whether nothing is wrong; warnings are not."""
    return all(check.outcome != "failed" for check in checks)


def version_of(text: str) -> tuple[int, ...]:
    """`2.15.0-RC.1` -> (2, 15, 0); what is no number ends it."""
    numbers: list[int] = []
    for part in text.split("-")[0].lstrip("v").split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def python_check(version: tuple[int, ...]) -> Check:
    """The interpreter that runs this."""
    found = ".".join(str(part) for part in version[:3])
    good = version >= MIN_PYTHON
    return Check("python", "ok" if good else "failed", found, "install Python 3.12 or newer")


def server_check(version: str) -> Check:
    """The broker's version: 2.15 has the subject transforms and schedules that we use."""
    good = version_of(version) >= MIN_SERVER
    return Check(
        "broker", "ok" if good else "failed", f"nats-server {version}", "run nats-server 2.15"
    )


def disk_check(free: int, text: str) -> Check:
    """Free space where the data is."""
    outcome: Outcome = "ok" if free >= LOW_DISK else "warning" if free >= NO_DISK else "failed"
    return Check("disk", outcome, f"{text} free", "free some space, or set MILLRACE_DATA elsewhere")


def certificate_check(left: float) -> Check:
    """The certificate of a server of the bus, which holds for so many seconds more."""
    found = f"ends in {int(left // DAY)} days" if left > 0 else "has ended"
    if left >= SHORT:
        return Check("tls", "ok", f"the certificate {found}")
    fix = "restart the servers: those of Millrace's own authority are made anew at a start"
    return Check("tls", "warning" if left > 0 else "failed", f"the certificate {found}", fix)


def streams_check(found: set[str], wanted: Iterable[str]) -> Check:
    """The streams of the subject table."""
    missing = sorted(set(wanted) - found)
    if missing:
        return Check("streams", "failed", f"missing: {', '.join(missing)}", "restart `make run`")
    return Check("streams", "ok", f"{len(found)} found")
