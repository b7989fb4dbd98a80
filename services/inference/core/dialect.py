"""Owns which formats a model speaks: how it writes calls, and how it sets reasoning apart.

Names are those that vLLM gives its parsers, so that what is known of a model carries over. Must
not know tokens, engines or folders: what a folder holds comes as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from msgspec import structs

from services.inference.core.demands import Constraint, Reasoning
from services.inference.core.grammar import can_write
from services.inference.core.toolcalls import (
    Parser,
    Reader,
    deepseek,
    harmony,
    llama,
    mistral,
    pythonic,
    tagged,
)
from services.inference.core.toolcalls.leading import LeadingCalls
from services.inference.core.toolcalls.qwen_coder import qwen_coder
from services.inference.core.toolcalls.tagged import TaggedCalls
from services.inference.core.toolcalls.thinking import MISTRAL_THINK, THINK, Plain, Thinking
from shared.contracts.agents import ToolSpec
from shared.errors import Permanent
from shared.models import AUTO, NONE, PARSERS, REASONING

Tools = Sequence[ToolSpec]
NAMED = "mistral_named"
"""Mistral's newer way, which is read as the other one and written by itself; no row names it."""
HARMONY, HARMONY_REASONING = "openai", "openai_gptoss"
OPENED_ALWAYS = "deepseek_r1"
"""Models that think at once, whether the template says so or not."""


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write calls: its parser, its marks, and what in a chat template tells of it."""

    reads: Callable[[Tools], Parser]
    marks: tuple[str, ...]
    signs: tuple[tuple[str, ...], ...] = ()
    """Any of these, all parts of it."""


def _deepseek(_: Tools) -> Parser:
    """Both of its ways: they cannot be taken for each other."""
    return TaggedCalls(deepseek.DEEPSEEK)


_TAGS = (tagged.OPEN, tagged.CLOSE)
_LLAMA = (*llama.TAGS, llama.AFTER)
_LLAMA_TAGS = tuple((tag,) for tag in llama.TAGS)
_MISTRAL = (mistral.OPEN, mistral.ARGS, mistral.ID)
# In this order: where a template shows the signs of two, the more special one is meant.
FORMATS: dict[str, Format] = {
    "mistral": Format(lambda _: mistral.MistralCalls(), _MISTRAL, ((mistral.OPEN,),)),
    NAMED: Format(lambda _: mistral.MistralCalls(), _MISTRAL),
    "deepseek_v3": Format(_deepseek, deepseek.MARKS, ((deepseek.ALL_BEGIN, deepseek.FENCE),)),
    "deepseek_v31": Format(_deepseek, deepseek.MARKS, ((deepseek.ALL_BEGIN,),)),
    "qwen3_coder": Format(
        lambda tools: TaggedCalls(qwen_coder(tools)), _TAGS, (("<function=", "<parameter="),)
    ),
    "hermes": Format(lambda _: TaggedCalls(), _TAGS, ((tagged.OPEN,),)),
    "pythonic": Format(lambda _: LeadingCalls(pythonic.PYTHONIC), _LLAMA, (("[func_name1(",),)),
    "llama3_json": Format(
        lambda _: LeadingCalls(llama.LLAMA_JSON), _LLAMA, ((llama.SHOWN,), *_LLAMA_TAGS)
    ),
}
"""Formats of calls that stand in the text of an answer, by name; harmony is beside them."""
ALIASES = {
    "llama4_json": "llama3_json",
    "llama4_pythonic": "pythonic",
}
THINKS = {"qwen3": THINK, OPENED_ALWAYS: THINK, "mistral": MISTRAL_THINK}
"""Tags of reasoning that stands before the answer, by name."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a model speaks. `NONE` for either: it is not looked for."""

    parser: str = "hermes"
    reasoning: str = NONE

    def reader(self, tools: Tools, tail: str = "") -> Reader:
        """What reads one answer. `tail` is how the prompt ends; without tools calls are text."""
        if self.parser == HARMONY:
            return Reader(harmony.Harmony(calls=bool(tools)), None)
        found = self.reasoning_at(tail)
        tags = THINKS.get(self.reasoning)
        opened = found is not None and found.opened
        channels = Thinking(tags, opened=opened) if tags else Plain()
        form = FORMATS.get(self.parser)
        return Reader(channels, form.reads(tools) if tools and form else None)

    def reasoning_at(self, tail: str) -> Reasoning | None:
        """The reasoning that may come behind a prompt that ends so; None where it is over.

        A template begins it, or leaves it to the model, or closes it before it began.
        """
        tags = THINKS.get(self.reasoning)
        if tags is None:
            return None
        opening, closing = tags
        end = tail.rstrip()
        if end.endswith(closing):
            return None
        opened = end.endswith(opening) or self.reasoning == OPENED_ALWAYS
        return Reasoning(opening, closing, opened)

    def enforced(self, constraint: Constraint | None, tail: str = "") -> Constraint | None:
        """The constraint for this model behind a prompt that ends so.

        Where nobody can write a grammar for the calls there is none: what the answer is held to is
        looked at when it has been written.
        """
        if constraint is None or not can_write(self.parser, constraint.calls):
            return None
        thought = self.reasoning_at(tail)
        return structs.replace(constraint, markup=self.parser, reasoning=thought)

    @property
    def marks(self) -> frozenset[str]:
        """Texts that the reader has to see even where they are control tokens."""
        form = FORMATS.get(self.parser)
        calls = harmony.MARKS if self.parser == HARMONY else form.marks if form else ()
        return frozenset((*calls, *THINKS.get(self.reasoning, ())))


def dialect_of(
    template: str, added: Iterable[str] = (), parser: str = AUTO, reasoning: str = AUTO
) -> Dialect:
    """What a model speaks, from its chat template and the texts of its added tokens.

    What the row of the model says wins. A template that shows no format at all gets Hermes', which
    most models without one of their own were trained on.

    Raises:
        Permanent: `unknown_parser`, or the two do not go together.
    """
    _known("parser", parser, PARSERS)
    _known("reasoning", reasoning, REASONING)
    tokens = frozenset(added)
    calls = ALIASES.get(parser, parser)
    if parser == AUTO:
        calls = _calls_in(template, tokens)
    if calls == "mistral" and mistral.ARGS in (template if mistral.OPEN in template else tokens):
        calls = NAMED
    thinks = _reasoning_in(template, tokens, calls) if reasoning == AUTO else reasoning
    if (calls == HARMONY) != (thinks == HARMONY_REASONING):
        detail = (
            f"parser {calls!r} and reasoning {thinks!r} do not go together: "
            f"{HARMONY!r} has its own reasoning, {HARMONY_REASONING!r}"
        )
        raise Permanent("unknown_parser", detail, field="reasoning")
    return Dialect(calls, thinks)


def _known(field: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        detail = f"there is no {field} {name!r}; known are {', '.join(names)}"
        raise Permanent("unknown_parser", detail, field=field)


def _calls_in(template: str, tokens: frozenset[str]) -> str:
    if all(mark in template or mark in tokens for mark in (harmony.CHANNEL, harmony.MESSAGE)):
        return HARMONY
    for place in (lambda sign: sign in template, tokens.__contains__):
        for name, form in FORMATS.items():
            if any(all(map(place, parts)) for parts in form.signs):
                return name
    return "hermes"


def _reasoning_in(template: str, tokens: frozenset[str], calls: str) -> str:
    if calls == HARMONY:
        return HARMONY_REASONING
    for name, (opening, closing) in (("mistral", MISTRAL_THINK), ("qwen3", THINK)):
        if closing in template or {opening, closing} <= tokens:
            return name
    return NONE
