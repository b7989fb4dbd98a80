"""Anthropic's words for thinking: how a request asks for it, and the blocks that show it.

Who does not ask is shown nothing, whatever the model thinks: clients read the first block as the
answer. A block has to be signed; what comes back of ours is worth what any other message of the
client is worth, so nothing is verified and nothing is signed.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from services.ingress.core.tasks.bodies import Body
from shared.contracts.agents import Effort
from shared.errors import Permanent

UNSIGNED = "unsigned"
"""In the place of a signature. Not empty: clients leave out blocks without one."""
Shown = Literal["hidden", "omitted", "shown"]
"""What a client sees of what was thought: no block, one without the text, all of it."""
_ENOUGH: tuple[tuple[int, Effort], ...] = ((16_384, "high"), (8192, "medium"))
"""Budgets from which on more than a little is thought."""


class ThinkingBody(Body):
    """`thinking`. A budget is a hint: engines bound answers as a whole, not what is thought."""

    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: int | None = Field(default=None, ge=1024)
    display: Literal["summarized", "omitted"] | None = None

    @model_validator(mode="after")
    def _budgeted(self) -> Self:
        if (self.type == "enabled") != (self.budget_tokens is not None):
            detail = "thinking.budget_tokens: it goes with type: enabled, and is needed there"
            raise Permanent("invalid_request", detail, field="thinking.budget_tokens")
        return self

    @property
    def thinks(self) -> bool:
        """Whether it asks for thought."""
        return self.type in ("enabled", "adaptive")


class OutputConfigBody(Body):
    """`output_config`: how much effort goes into the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


def effort_of(thinking: ThinkingBody | None, config: OutputConfigBody | None) -> Effort | None:
    """How much the model shall think; None: as it does when nobody says."""
    asked: Effort | None = None if config is None else config.effort
    if thinking is None:
        return asked
    if not thinking.thinks:
        return "none"
    if thinking.budget_tokens is None:
        return asked or "medium"
    budget = thinking.budget_tokens
    return asked or next((effort for least, effort in _ENOUGH if budget >= least), "low")


def shown_of(thinking: ThinkingBody | None) -> Shown:
    """What the client wants to see of it."""
    if thinking is None or not thinking.thinks:
        return "hidden"
    return "omitted" if thinking.display == "omitted" else "shown"


def thinking_block(text: str, shown: Shown) -> dict[str, object]:
    """What the model thought, as a whole."""
    said = text if shown == "shown" else ""
    return {"type": "thinking", "thinking": said, "signature": UNSIGNED}
