"""What an answer must look like, beside how it is sampled (OpenAI's names and meaning)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shared.contracts.agents import Effort
from shared.contracts.base import Message


class ResponseFormat(Message, frozen=True):
    """The form of the answer's text. `schema` goes with `json_schema`."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    schema: dict[str, object] | None = None
    strict: bool = False


class Demands(Message, frozen=True):
    """What the model is held to; a worker enforces it or refuses the request by name.

    `tool_choice` is `auto`, `none`, `required`, or `function`, and then `function` names it.
    `logprobs` asks for the log-probability of every token and that many alternatives; None: none.
    With `truncation` `auto` the beginning of a conversation that is too long is forgotten.
    """

    tool_choice: Literal["auto", "none", "required", "function"] = "auto"
    function: str = ""
    parallel_tool_calls: bool = True
    response_format: ResponseFormat = ResponseFormat()
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    truncation: Literal["disabled", "auto"] = "disabled"
    effort: Effort | None = None
    """A hint, which a model follows as far as it can; but `none` is held to, or refused."""
