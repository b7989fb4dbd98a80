"""`/v1/conversations`: sessions, their items, and what is set down in them without an answer."""

from __future__ import annotations

from dataclasses import dataclass

from services.ingress.core.access.caller import Caller
from services.ingress.core.responses.conversations import (
    ConversationCreateBody,
    Entry,
    ItemsBody,
    conversation_json,
    conversation_of,
    entries_of,
    noted_entries,
    the_entry,
)
from services.ingress.core.responses.fold import Json
from services.ingress.core.responses.input import check_balance, messages_of
from services.ingress.core.tasks.repetition import check_same_note, fingerprint_of
from services.ingress.handlers.repeated import standing_for
from services.ingress.ports import Housekeeping, Keyed, Tasks
from shared.clock import mint_id
from shared.contracts.base import SessionRef, as_token, check_token
from shared.contracts.facts import Noted
from shared.contracts.log import StoredFact
from shared.errors import Permanent


@dataclass(frozen=True, slots=True)
class ConversationHandlers:
    """Everything is in the log; a conversation that nobody has used yet is one fact there."""

    tasks: Tasks
    sessions: Housekeeping
    keyed: Keyed

    async def create(self, caller: Caller, body: ConversationCreateBody, key: str | None) -> Json:
        """A new conversation; the same key makes it once.

        Raises:
            Permanent: what is wrong with the items, naming the one; `idempotency_conflict`.
        """
        name = mint_id("conv") if key is None else as_token(f"conv-{caller.own(key)}")
        messages = messages_of(body.items or [], "items")
        check_balance(messages)
        ref = SessionRef(caller.tenant, name)
        note = Noted(note=f"{name}-0"[-64:], messages=messages, metadata=body.metadata or {})
        async with standing_for(self.keyed, caller, key, fingerprint_of(body)):
            await self.tasks.note(ref, note)
            history = await self._history(ref)
            check_same_note(history, note)
        return conversation_json(name, history)

    async def get(self, caller: Caller, name: str) -> Json:
        """A conversation."""
        return conversation_json(name, await self._history(self._ref(caller, name)))

    async def update(self, caller: Caller, name: str, metadata: dict[str, str]) -> Json:
        """Its metadata anew."""
        ref = self._ref(caller, name)
        await self._history(ref)
        await self.tasks.note(ref, Noted(note=mint_id("note"), metadata=metadata))
        return await self.get(caller, name)

    async def delete(self, caller: Caller, name: str) -> Json:
        """Forget it, for good."""
        ref = self._ref(caller, name)
        await self._history(ref)
        await self.sessions.delete_session(ref, force=True, by="client")
        return {"id": name, "object": "conversation.deleted", "deleted": True}

    async def items(self, caller: Caller, name: str) -> list[Json]:
        """All its items, in order."""
        return [entry.item for entry in await self._entries(self._ref(caller, name))]

    async def item(self, caller: Caller, name: str, item: str) -> Json:
        """One of them."""
        return the_entry(await self._entries(self._ref(caller, name)), item).item

    async def add(self, caller: Caller, name: str, body: ItemsBody, key: str | None) -> list[Json]:
        """Set items down; the same key does it once.

        Raises:
            Permanent: what is wrong with them; `session_busy` while an answer is under way;
                `idempotency_conflict`.
        """
        ref = self._ref(caller, name)
        await self._history(ref)
        messages = messages_of(body.items, "items")
        check_balance(messages)
        words = mint_id("note") if key is None else as_token(caller.own(key))
        note = Noted(note=words, messages=messages)
        async with standing_for(self.keyed, caller, key, fingerprint_of(body, name)):
            await self.tasks.note(ref, note)
            if key is not None:
                check_same_note(await self._history(ref), note)
        return [entry.item for entry in noted_entries(note)]

    async def remove(self, caller: Caller, name: str, item: str) -> Json:
        """Hide an item, from models too; a call goes with its result.

        Raises:
            Permanent: `item_has_call` for a result alone: a call without one cannot be shown.
        """
        ref = self._ref(caller, name)
        entry = the_entry(await self._entries(ref), item)
        if not entry.place or entry.item["type"] == "function_call_output":
            detail = "a result belongs to its call: delete the function_call"
            raise Permanent("item_has_call", detail, field="item_id")
        await self.tasks.note(ref, Noted(note=mint_id("note"), hidden=(entry.place,)))
        return await self.get(caller, name)

    def _ref(self, caller: Caller, name: str) -> SessionRef:
        return SessionRef(caller.tenant, check_token(name, "conversation_id"))

    async def _history(self, ref: SessionRef) -> list[StoredFact]:
        return conversation_of(ref.session, await self.tasks.history(ref))

    async def _entries(self, ref: SessionRef) -> list[Entry]:
        return entries_of(await self._history(ref))
