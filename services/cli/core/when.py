"""`--at` and `--every`: points in time and lengths of it, as people write them (pure)."""

from __future__ import annotations

import re
from datetime import datetime

from shared.errors import Permanent

_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")


def seconds_of(text: str, field: str = "every") -> int:
    """`90s`, `15m`, `1h30m`, `1d`.

    Raises:
        Permanent: `invalid_schedule`.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        detail = f"{text[:80]!r} is no length of time, such as 90s, 15m, 1h30m or 1d"
        raise Permanent("invalid_schedule", detail, field=field)
    given = zip(found.groups(), _UNITS.values(), strict=True)
    return sum(int(count or 0) * size for count, size in given)


def instant_of(text: str, now: float) -> float:
    """`2026-12-24T18:00` where the reader is, the same with an offset, or `+15m` from now.

    Raises:
        Permanent: `invalid_schedule`.
    """
    if text.startswith("+"):
        return now + seconds_of(text[1:], "at")
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        detail = f"{text[:80]!r} is no time, such as 2026-12-24T18:00, 2026-12-24T18:00Z or +15m"
        raise Permanent("invalid_schedule", detail, field="at") from error
