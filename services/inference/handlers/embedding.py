"""An embedding from its inputs to its vectors, in batches that take turns with other work.

Knows no bus and no model: what is common to all of them is here, once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

from services.inference.core.answering import Answer, Owner
from services.inference.core.embedding import Bounds, batches
from services.inference.core.generation import GenerationResult, TokenUsage
from services.inference.handlers.gate import Gate
from services.inference.ports import (
    ChatModel,
    Embedded,
    Embeds,
    EngineUnavailable,
    InputTooLong,
    UnsupportedDemand,
)
from shared.contracts.embeddings import EmbeddingInput, check_input
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.contracts.work import DirectRequest
from shared.errors import MillraceError

Summed = Callable[[DirectRequest, Answer, GenerationResult], DirectResult]
"""What a worker says at the end."""
_EVENT = 192 * 1024
"""Bytes of vectors in one event: more of them would have to be claimed (ADR 0028)."""
_WHOLE = GenerationResult(content="", tool_calls=(), malformed=(), finish_reason="stop")
_CUT = GenerationResult(content="", tool_calls=(), malformed=(), finish_reason="aborted")


class Embedding:
    """The embeddings of a worker. `ticks` gives monotonic seconds."""

    def __init__(
        self, chat: ChatModel, bounds: Bounds, gate: Gate, ticks: Callable[[], float]
    ) -> None:
        self._chat, self._bounds, self._gate, self._ticks = chat, bounds, gate, ticks
        self._wanted: set[str] = set()

    def drop(self, request: str) -> None:
        """Nobody waits for it any more: no further batch is begun."""
        self._wanted.discard(request)

    async def events(
        self, request: DirectRequest, wanted: EmbeddingInput, summed: Summed
    ) -> AsyncGenerator[DirectEvent]:
        """The vectors as they come; the last event has `done`, with what was read up to there.

        Raises:
            Permanent, Transient, Broken: as `Embeds.embed`, where nothing was computed before.
        """
        check_input(wanted)
        model = self._offered()
        answer = Answer(0.0, self._ticks)
        self._wanted.add(request.id)
        try:
            for start, stop in batches(wanted.each, self._bounds):
                try:
                    found = await self._batch(model, request, wanted, (start, stop))
                except MillraceError as error:
                    if not start:
                        raise
                    done = summed(request, answer, _CUT)  # what was read before is billed
                    yield DirectEvent(done=done, error=error.as_failure())
                    return
                if found is None:
                    yield DirectEvent(done=summed(request, answer, _CUT))
                    return
                answer.heard()
                answer.usage = TokenUsage(answer.usage.prompt + found.tokens, 0, 0)
                for part in _parts(found.vectors):
                    yield DirectEvent(vectors=part)
            yield DirectEvent(done=summed(request, answer, _WHOLE))
        finally:
            self._wanted.discard(request.id)

    async def _batch(
        self, model: Embeds, request: DirectRequest, wanted: EmbeddingInput, place: tuple[int, int]
    ) -> Embedded | None:
        """One batch, when it is its turn; the places of inputs are those of the whole."""
        owner = Owner(request.id, request.tenant)
        async with self._gate.turn(owner, request.priority) as turn:
            if turn != "yours" or request.id not in self._wanted:
                return None
            if (why := self._chat.health()) is not None:
                raise EngineUnavailable(why.detail)
            try:
                return await model.embed(request.id, wanted.part(*place))
            except InputTooLong as error:
                raise InputTooLong(error.detail, place[0] + error.place) from error

    def _offered(self) -> Embeds:
        if not isinstance(self._chat, Embeds):
            raise UnsupportedDemand("the model answers in text and gives no vectors", field="model")
        return self._chat


def _parts(vectors: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All of them in their order, as many at a time as an event has room for."""
    most = max(1, _EVENT // max(1, len(vectors[0])))
    for start in range(0, len(vectors), most):
        yield tuple(vectors[start : start + most])
