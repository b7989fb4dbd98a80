"""How many clients there are at which moment: a curve through points. Pure."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

CurveName = Literal["steady", "ramp", "spike", "soak"]

CURVES: dict[CurveName, tuple[tuple[float, float], ...]] = {
    "steady": ((0.0, 0.3), (0.1, 1.0), (1.0, 1.0)),
    "ramp": ((0.0, 0.0), (1.0, 1.0)),
    "spike": ((0.0, 0.2), (0.4, 0.2), (0.42, 1.0), (0.6, 1.0), (0.62, 0.2), (1.0, 0.2)),
    "soak": ((0.0, 0.1), (0.02, 1.0), (1.0, 1.0)),
}
"""Points (share of the time, share of the clients), joined by straight lines."""


def users_at(curve: CurveName, users: int, seconds: float, elapsed: float) -> int | None:
    """The clients at a moment, at least one; none is the end of the load."""
    if elapsed >= seconds:
        return None
    place = max(0.0, elapsed / seconds)
    for (start, low), (end, high) in pairwise(CURVES[curve]):
        if place <= end:
            share = low + (high - low) * (place - start) / (end - start)
            return max(1, math.ceil(share * users - 1e-9))
    return users
