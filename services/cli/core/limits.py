"""`--limits steps=3,tokens=500,seconds=30,cost=0.5` as a patch of an agent's limits (pure)."""

from __future__ import annotations

from services.cli.core.words import PER_DOLLAR
from shared.contracts.agents import LimitsPatch
from shared.errors import Permanent

_NAMES = ("steps", "tokens", "seconds", "cost", "repeats")


def limits_of(text: str) -> LimitsPatch | None:
    """The limits that were asked for; None where there are none.

    Raises:
        Permanent: `invalid_limit`, with what would be right.
    """
    given: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = part.partition("=")
        if name not in _NAMES or not _is_positive(value, 0.0 if name == "cost" else 1.0):
            raise Permanent(
                "invalid_limit",
                f"{part!r}: write steps=N, tokens=N, seconds=N, cost=DOLLARS or repeats=N",
                field="limits",
            )
        given[name] = float(value)
    if not given:
        return None
    whole = {name: int(value) for name, value in given.items()}
    return LimitsPatch(
        max_steps=whole.get("steps"),
        max_tokens=whole.get("tokens"),
        deadline_s=given.get("seconds"),
        max_cost=price_of(given.get("cost")),
        max_repeats=whole.get("repeats"),
    )


def price_of(dollars: float | None) -> int | None:
    """Dollars as a price, in millionths of a cent."""
    return None if dollars is None else round(dollars * PER_DOLLAR)


def _is_positive(value: str, least: float) -> bool:
    return value.isascii() and value.replace(".", "", 1).isdecimal() and float(value) >= least
