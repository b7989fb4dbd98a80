"""`--limits steps=3,tokens=500,seconds=30` as a patch of an agent's limits (pure)."""

from __future__ import annotations

from shared.contracts.agents import LimitsPatch
from shared.errors import Permanent


def limits_of(text: str) -> LimitsPatch | None:
    """The limits that were asked for; None where there are none.

    Raises:
        Permanent: `invalid_limit`, with what would be right.
    """
    given: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = part.partition("=")
        if name not in ("steps", "tokens", "seconds") or not _is_positive(value):
            raise Permanent(
                "invalid_limit", f"{part!r}: write steps=N, tokens=N or seconds=N", field="limits"
            )
        given[name] = float(value)
    if not given:
        return None
    return LimitsPatch(
        max_steps=int(given["steps"]) if "steps" in given else None,
        max_tokens=int(given["tokens"]) if "tokens" in given else None,
        deadline_s=given.get("seconds"),
    )


def _is_positive(value: str) -> bool:
    return value.replace(".", "", 1).isdecimal() and float(value) >= 1
