"""Matching of subjects as the server does it, written a second time for the tests."""

from __future__ import annotations

from collections.abc import Iterable

from shared.subjects.permissions import permissions_of


def matches(pattern: str, subject: str) -> bool:
    """Whether a pattern with `*` and `>` covers a subject."""
    wanted, given = pattern.split("."), subject.split(".")
    for at, part in enumerate(wanted):
        if part == ">":
            return len(given) > at
        if at >= len(given) or part not in ("*", given[at]):
            return False
    return len(wanted) == len(given)


def covers(patterns: Iterable[str], subject: str) -> bool:
    """Whether any of the patterns does."""
    return any(matches(pattern, subject) for pattern in patterns)


def may_publish(user: str, subject: str) -> bool:
    """What the table says."""
    found = permissions_of(user)
    return covers(found.publish, subject) and not covers(found.publish_denied, subject)


def example_of(pattern: str) -> str:
    """A subject that a pattern covers."""
    return ".".join({"*": "x1", ">": "x1.x2"}.get(part, part) for part in pattern.split("."))
