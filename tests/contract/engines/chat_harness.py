"""What the suite of models needs to hold one of them, and the questions that it asks.

See the package's docstring for how to plug a model in.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import pytest

from services.inference.core.answering import Answer, Owner, Question
from services.inference.core.demands import Held
from services.inference.core.generation import GenerationResult, TokenUsage
from services.inference.core.toolcalls import ToolCall
from services.inference.ports import ChatModel, EngineInfo
from shared import clock
from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.demands import Demands, ResponseFormat

SOON = 20.0
Lack = Literal[
    "abort_result",
    "broken",
    "count",
    "failed",
    "greedy",
    "logit_bias",
    "logprobs",
    "penalties",
    "response_format",
    "seed",
    "settings",
    "slots",
    "stop",
    "stop_string",
    "tool_choice",
    "tools",
]
"""What a model may be without.

`greedy`: the same answer to the same question at temperature 0. `slots`: statistics that show what
runs. `stop_string`: to tell which stop string ended an answer. `abort_result`: a result of what was
said before an abort. `settings`: the refusal of sampling parameters that mean nothing. `failed` and
`broken`: a way for the suite to bring about the failure. The others have the names of the request.
"""

DEMANDS: dict[str, Demands] = {
    "logprobs": Demands(logprobs=1),
    "response_format": Demands(response_format=ResponseFormat(type="json_object")),
}
SAMPLINGS: dict[str, dict[str, Any]] = {
    "logit_bias": {"logit_bias": {"3": 1.0}},
    "penalties": {"presence_penalty": 1.0},
}
ADD = ToolSpec(
    name="add",
    description="Adds two numbers.",
    parameters={
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 0, "maximum": 99},
            "b": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    strict=True,
)


@dataclass(frozen=True)
class ChatHarness:
    """One model under test, not started.

    `says` gives the message to which the model answers exactly that text, `calls` the one to which
    it answers with a call of `ADD`; None where nothing but its weights decides. `long` is a text
    of more tokens than it takes.
    """

    chat: ChatModel
    lacks: frozenset[Lack] = frozenset()
    says: Callable[[str], str] | None = None
    calls: Callable[[], str] | None = None
    fail_next_step: Callable[[], None] | None = None
    break_next_step: Callable[[], None] | None = None
    long: str = field(default="word " * 4000, repr=False)

    def needs(self, *names: Lack) -> None:
        """Skip the test, saying why, where the model is without one of these."""
        for name in names:
            if name in self.lacks:
                pytest.skip(f"the model declares that it is without {name}")


class MakeChat(Protocol):
    """Makes a model like the last one, not started."""

    def __call__(self) -> ChatHarness: ...


class Said(NamedTuple):
    """A whole answer: its pieces of text, its calls, and what the model says of it at the end."""

    pieces: list[tuple[int, str]]
    calls: list[ToolCall]
    answer: Answer

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.pieces)

    @property
    def result(self) -> GenerationResult:
        assert self.answer.result is not None
        return self.answer.result

    @property
    def usage(self) -> TokenUsage:
        return self.answer.usage


@asynccontextmanager
async def started(harness: ChatHarness) -> AsyncIterator[tuple[ChatModel, EngineInfo]]:
    try:
        yield harness.chat, await harness.chat.start()
    finally:
        await harness.chat.close()


_names = itertools.count()


def asks(
    text: str | Sequence[dict[str, object]] = "Say hello to the world.",
    demands: Demands | None = None,
    *tools: ToolSpec,
    **sampling: Any,
) -> Question:
    """A question at temperature 0 with a name of its own."""
    messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
    return Question(
        messages,
        Held(demands or Demands(), tools),
        Sampling(**{"max_tokens": 24, **sampling}),
        Owner(f"chat-{next(_names)}", "tenant"),
    )


def fresh() -> Answer:
    return Answer(0.0, clock.monotonic)


async def said(chat: ChatModel, question: Question) -> Said:
    """Ask and listen to the end."""
    answer = fresh()
    pieces: list[tuple[int, str]] = []
    calls: list[ToolCall] = []
    async with asyncio.timeout(SOON):
        async for piece in chat.pieces(question, answer):
            if isinstance(piece, ToolCall):
                calls.append(piece)
            elif isinstance(piece, tuple):  # beside them a model may tell what it thinks
                pieces.append(piece)
    return Said(pieces, calls, answer)


def exactly(harness: ChatHarness, text: str, **sampling: Any) -> tuple[Question, str]:
    """A question whose answer is known, and the answer: the text, or the JSON of it."""
    if harness.says is not None:
        return asks(harness.says(text), **sampling), text
    harness.needs("response_format")
    form = ResponseFormat(type="json_schema", name="text", schema={"const": text}, strict=True)
    return asks("Say it.", Demands(response_format=form), **sampling), json.dumps(
        text, ensure_ascii=False
    )
