"""One question to a model, and its answer while it comes: what every kind of model is asked with.

Must not know engines, tokens or transport.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.inference.core.demands import Held
from services.inference.core.generation import GenerationResult, TokenUsage
from services.inference.core.pieces import Coalescer
from services.inference.core.scores import Scores
from services.inference.core.toolcalls import ReasoningDelta, ToolCall
from shared.contracts import agents, facts

Json = dict[str, object]
Piece = tuple[int, str] | ReasoningDelta | ToolCall
"""What becomes certain of an answer: more text and its index, more reasoning, or a whole call."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose generation it is. Tenants never share cached prefixes: timing would tell."""

    request: str
    tenant: str
    session: str = ""
    """Whose prompts begin with each other; empty: nobody's."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked: OpenAI-shaped messages, and what its answer is held to.

    `thoughts` is what it thought before the answers of this turn, by the place of the message: for
    those whose prompt has a place for it.
    """

    messages: Sequence[Json]
    held: Held
    sampling: agents.Sampling
    owner: Owner
    priority: agents.Priority = "interactive"
    thoughts: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """The next piece of a step: of its text, or before that of what the model thinks."""

    index: int
    text: str = ""
    reasoning: str = ""


@dataclass(slots=True)
class Telling:
    """Numbers what a viewer is told of a step: what was thought first, then the text.

    What is thought behind the first text is left to the fact: the numbers of the pieces have to
    follow from the fact alone.
    """

    cuts: list[int] = field(default_factory=list)
    answering: bool = False

    @property
    def thought_cuts(self) -> tuple[int, ...]:
        """Where the reasoning was cut, as far as it was told."""
        return tuple(self.cuts)

    def of(self, piece: Piece) -> Told | None:
        """What is told of a piece; None for what is not."""
        match piece:
            case ToolCall():
                return None
            case ReasoningDelta(text=text):
                if self.answering or not text:
                    return None
                self.cuts.append((self.cuts[-1] if self.cuts else 0) + len(text))
                return Told(len(self.cuts) - 1, reasoning=text)
            case index, text:
                self.answering = True
                return Told(len(self.cuts) + index, text)


@dataclass(slots=True)
class Answer:
    """A generation while it runs, and its result at the end. `ticks` gives monotonic seconds."""

    queued_ms: float
    ticks: Callable[[], float]
    coalescer: Coalescer = field(default_factory=Coalescer)
    thoughts: Coalescer = field(default_factory=Coalescer)
    """The reasoning, cut on its own."""
    telling: Telling = field(default_factory=Telling)
    first_token: float | None = None
    result: GenerationResult | None = None
    usage: TokenUsage = field(default_factory=lambda: TokenUsage(0, 0, 0))
    scores: Scores | None = None
    """Only where log-probabilities were asked for."""
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.ticks()

    def heard(self) -> float:
        """Something came: the time, which is the time of the first token if nothing had come."""
        now = self.ticks()
        if self.first_token is None:
            self.first_token = now
        return now

    def timings(self) -> facts.Timings:
        """Milliseconds so far."""
        now = self.ticks()
        first = self.first_token if self.first_token is not None else now
        return facts.Timings(
            queued_ms=round(self.queued_ms, 3),
            first_token_ms=round((first - self.started) * 1e3, 3),
            total_ms=round((now - self.started) * 1e3, 3),
        )
