"""Owns when an endpoint may be asked again, from the headers of its answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

LONGEST = 300.0
"""Seconds. Whoever asks for more means: not today; then another model has to do it."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_LEFT = re.compile(r"^(x-ratelimit|anthropic-ratelimit)-(?:(remaining)-(.+)|(.+)-(remaining))$")


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: what `Retry-After` says, else until what has run out is there again.

    None where the endpoint says nothing. Times of day are counted from the answer's own `Date`.
    """
    low = {name.lower(): value.strip() for name, value in headers.items()}
    asked = _milliseconds(low.get("retry-after-ms", ""))
    if asked is None:
        asked = _moment(low.get("retry-after", ""), low)
    if asked is None:
        asked = max(_resets(low), default=None)
    return None if asked is None else min(LONGEST, max(0.0, asked))


def _resets(headers: Mapping[str, str]) -> Iterable[float]:
    for name, value in headers.items():
        found = _LEFT.match(name)
        if found is None or _number(value) != 0:
            continue
        prefix, what = found.group(1), found.group(3) or found.group(4)
        reset = headers.get(f"{prefix}-reset-{what}") or headers.get(f"{prefix}-{what}-reset")
        wait = _moment(reset or "", headers)
        if wait is not None:
            yield wait


def _moment(text: str, headers: Mapping[str, str]) -> float | None:
    """Seconds, a duration such as 6m0s, or a time of day (HTTP's form or RFC 3339)."""
    if (seconds := _number(text)) is not None:
        return seconds
    if (seconds := _duration(text)) is not None:
        return seconds
    then, now = _time(text), _time(headers.get("date", ""))
    return (then - now).total_seconds() if then and now else None


def _milliseconds(text: str) -> float | None:
    found = _number(text)
    return None if found is None else found / 1000


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", text) else None


def _duration(text: str) -> float | None:
    parts = _PART.findall(text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _time(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(text)
        except ValueError:
            continue
        return found if found.tzinfo is not None else None
    return None
