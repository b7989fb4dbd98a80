"""What clients store: each something of its own, so that a search can tell them apart. Pure."""

from __future__ import annotations

WHO = (
    "heron", "gardener", "sailor", "clockmaker", "violinist", "glacier", "baker", "lighthouse",
    "bridge", "falcon", "potter", "volcano", "beekeeper",
)  # fmt: skip
WHERE = (
    "harbour", "desert", "library", "orchard", "railway", "palace", "observatory", "island",
    "theatre", "mine", "monastery",
)  # fmt: skip
WHAT = ("letters", "seeds", "ropes", "coins", "maps", "candles", "spoons", "feathers", "bells")
"""Three lengths without a common divisor: 1,287 clients before two have the same words."""


def text_of(number: int, turn: int) -> str:
    """What a client stores, in its n-th turn."""
    who, where, what = _words(number)
    return f"The {who} in the {where} counts {what}: there are {turn} of them."


def query_of(number: int) -> str:
    """What it asks to find that again."""
    who, where, what = _words(number)
    return f"how many {what} does the {who} in the {where} count"


def _words(number: int) -> tuple[str, str, str]:
    return WHO[number % len(WHO)], WHERE[number % len(WHERE)], WHAT[number % len(WHAT)]
