"""Conversations: a session as OpenAI shows it, and its items as projections of its facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from services.ingress.core.responses.fold import Json, Response, responses_of
from services.ingress.core.responses.render import message_items, output_items
from services.ingress.core.tasks.bodies import Body
from shared.contracts.facts import Noted
from shared.contracts.log import StoredFact
from shared.errors import Permanent

MOST_ITEMS = 20
_PARTS = {"message": "text", "reasoning": "thought"}
"""What of an answer an item is that stands for it once."""
Items = Annotated[list[dict[str, Any]], Field(max_length=MOST_ITEMS)]
Tags = Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)]


class ConversationCreateBody(Body):
    """`POST /v1/conversations`."""

    items: Items | None = None
    metadata: Tags | None = None


class ConversationUpdateBody(Body):
    """`POST /v1/conversations/{id}`: its metadata, in the place of those that it has."""

    metadata: Tags


class ItemsBody(Body):
    """`POST /v1/conversations/{id}/items`."""

    items: Annotated[Items, Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Entry:
    """An item, and the place in the log by which it can be hidden; none for a result."""

    item: Json
    place: str


def conversation_not_found(name: str) -> Permanent:
    """There is no such conversation (any more)."""
    detail = f"Conversation with id {name[:80]!r} not found"
    return Permanent("conversation_not_found", detail, field="conversation")


def conversation_of(name: str, history: Iterable[StoredFact]) -> list[StoredFact]:
    """The facts of a session that began as a conversation, without what is left of former lives.

    Other sessions are none: whoever may only talk to models must not see what tasks have done.

    Raises:
        Permanent: `conversation_not_found`.
    """
    living = [stored for stored in history if stored.kind != "deleted"]
    if not living or not isinstance(living[0].fact, Noted):
        raise conversation_not_found(name)
    return living


def conversation_json(name: str, history: Sequence[StoredFact]) -> Json:
    """The object of a session with these facts."""
    metadata: dict[str, str] = {}
    for note in _notes(history):
        fact = note.fact
        if isinstance(fact, Noted) and fact.metadata is not None:
            metadata = fact.metadata
    return {
        "id": name,
        "object": "conversation",
        "created_at": int(history[0].time),
        "metadata": metadata,
    }


def entries_of(history: Sequence[StoredFact]) -> list[Entry]:
    """All items of a session that are not hidden, in the order in which they were said."""
    found: list[tuple[int, list[Entry]]] = []
    hidden: set[str] = set()
    for stored in _notes(history):
        fact = stored.fact
        if isinstance(fact, Noted):
            hidden |= set(fact.hidden)
            found.append((stored.seq, noted_entries(fact)))
    found += [(response.seq, _entries(response)) for response in responses_of(history)]
    found.sort(key=lambda one: one[0])
    every = [entry for _, entries in found for entry in entries]
    gone = {entry.item.get("call_id") for entry in every if entry.place in hidden} - {None}
    return [
        entry
        for entry in every
        if entry.place not in hidden and entry.item.get("call_id") not in gone
    ]


def noted_entries(fact: Noted) -> list[Entry]:
    """The items of what was set down."""
    return [
        Entry(item, f"{fact.note}/in/{number}")
        for number, message in enumerate(fact.messages)
        for item in message_items(fact.note, [message], number)
    ]


def the_entry(entries: Iterable[Entry], item: str) -> Entry:
    """An item by its id.

    Raises:
        Permanent: `item_not_found`.
    """
    for entry in entries:
        if entry.item["id"] == item:
            return entry
    raise Permanent("item_not_found", f"No item with id {item[:100]!r}", field="item_id")


def _notes(history: Iterable[StoredFact]) -> list[StoredFact]:
    """What was set down, once each."""
    seen: dict[str, StoredFact] = {}
    for stored in history:
        if isinstance(stored.fact, Noted):
            seen.setdefault(stored.fact.note, stored)
    return list(seen.values())


def _entries(response: Response) -> list[Entry]:
    task, number = response.place.task, response.place.number
    stem = f"{task}_{number}"
    entries = [
        Entry(item, f"{task}/in/{place}" if number == 0 else "")
        for place, message in enumerate(response.input)
        for item in message_items(stem, [message], place)
    ]
    return entries + [Entry(item, _place(item)) for item in output_items(response)]


def _place(item: Json) -> str:
    """Where an item that a model made stands: its id says it."""
    _, _, where = str(item["id"]).partition("_")
    if item["type"] in _PARTS:
        task, _, step = where.rpartition("_")
        return f"{task}/{step}/{_PARTS[str(item['type'])]}"
    head, _, call = where.rpartition("_")
    task, _, step = head.rpartition("_")
    return f"{task}/{step}/{call}"
