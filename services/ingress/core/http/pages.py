"""OpenAI's lists: a page of items, and how to ask for the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from shared.errors import Permanent

Json = dict[str, object]


def page_of(
    items: Sequence[Json], *, after: str | None, limit: int, order: Literal["asc", "desc"]
) -> Json:
    """The items behind the one named `after`, at most `limit`; `items` are in rising order.

    Raises:
        Permanent: `item_not_found` where `after` names none of them.
    """
    ordered = list(items) if order == "asc" else list(reversed(items))
    start = 0
    if after is not None:
        places = [number for number, item in enumerate(ordered, 1) if item["id"] == after]
        if not places:
            raise Permanent("item_not_found", f"No item with id {after[:100]!r}", field="after")
        start = places[0]
    page = ordered[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(ordered) > start + limit,
    }
