"""Ways of cutting a text into pieces, for properties that must not depend on the cut."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st


def cut[T: (str, bytes)](whole: T, places: Sequence[int]) -> list[T]:
    """The pieces between the places, some of them empty."""
    ends: list[int] = sorted(min(place, len(whole)) for place in places)
    return [whole[a:b] for a, b in zip([0, *ends], [*ends, len(whole)], strict=True)]


places = st.lists(st.integers(0, 120), max_size=12)
