"""Owns how calls are written under a constraint: a grammar per format, in llguidance's Lark.

The other half of `core.toolcalls`: what is let through here is read back there. Must not know
masks or tokens; which marks are control tokens of a model is an argument.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import orjson

from services.inference.core import parameters
from services.inference.core.demands import CallShape, Constraint
from services.inference.core.toolcalls import deepseek, harmony, mistral, tagged
from shared.errors import Permanent

# Without this a model may write spaces between tokens until the limit (measured with others).
_COMPACT: dict[str, object] = {"whitespace_flexible": False}
# The spaces that chat templates write and models were trained on.
_SPACED = _COMPACT | {"item_separator": ", ", "key_separator": ": "}
TokenOf = Callable[[str], int | None]
"""The id of a mark that is a control token; None where it is text like any other."""


class SchemaRefused(Permanent):
    """A schema is not JSON; the field is the part of the constraint that holds it."""

    def __init__(self, detail: str, field: str) -> None:
        super().__init__("invalid_request", detail, field=field)


class Mark(msgspec.Struct, frozen=True):
    """A text that may be one control token."""

    text: str


class Maybe(msgspec.Struct, frozen=True):
    """A text that some models of a format write and others do not."""

    text: str


Part = str | Mark | Maybe
Parts = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Arguments:
    """How a format writes arguments, where not as one JSON value.

    `rules` are those of a call whose first rule has the name given; `can` tells of a call whether
    there are any.
    """

    rules: Callable[[parameters.Schema, str, parameters.Terms], Iterator[str]]
    can: Callable[[CallShape], bool]


@dataclass(frozen=True, slots=True)
class Writing:
    """How a format writes calls: what stands before and behind the arguments of one.

    `begin`, `between` and `end` stand around all of them. `answer` stands before everything that
    is no call, and `thought` around reasoning that the format itself sets apart: what opens it,
    the mark that closes it, and what stands behind that.
    """

    call: Callable[[str], tuple[Parts, Parts]]
    begin: Parts = ()
    between: Parts = ()
    end: Parts = ()
    answer: Parts = ()
    thought: tuple[Parts, Mark, Parts] | None = None
    single: bool = False
    """A turn has at most one call."""
    arguments: Arguments | None = None


def _hermes(name: str) -> tuple[Parts, Parts]:
    head = f'\n{{"name": {_quoted(name)}, "arguments": '
    return (Mark(tagged.OPEN), head), ("}\n", Mark(tagged.CLOSE))


def _llama(name: str) -> tuple[Parts, Parts]:
    return (f'{{"name": {_quoted(name)}, "parameters": ',), ("}",)


def _mistral(name: str) -> tuple[Parts, Parts]:
    return (f'{{"name": {_quoted(name)}, "arguments": ',), ("}",)


def _mistral_named(name: str) -> tuple[Parts, Parts]:
    return (Mark(mistral.OPEN), name, Mark(mistral.ARGS)), ()


def _deepseek(name: str) -> tuple[Parts, Parts]:
    head = f"{name}\n{deepseek.FENCE}\n"
    before = (Mark(deepseek.BEGIN), "function", Mark(deepseek.SEPARATOR), head)
    return before, ("\n```", Mark(deepseek.END))


def _deepseek_v31(name: str) -> tuple[Parts, Parts]:
    return (Mark(deepseek.BEGIN), name, Mark(deepseek.SEPARATOR)), (Mark(deepseek.END),)


def _harmony(name: str) -> tuple[Parts, Parts]:
    to = f"commentary to=functions.{name} "
    before = (Mark(harmony.CHANNEL), to, Mark(harmony.CONSTRAIN), "json", Mark(harmony.MESSAGE))
    return before, (Mark(harmony.CALL),)


def _qwen(name: str) -> tuple[Parts, Parts]:
    return (Mark(tagged.OPEN), f"\n<function={name}>\n"), ("</function>\n", Mark(tagged.CLOSE))


def _python(name: str) -> tuple[Parts, Parts]:
    return (f"{name}(",), (")",)


def _object(call: CallShape) -> dict[str, object]:
    return parsed(call.schema, "constraint.calls")


_XML = Arguments(parameters.elements, lambda call: parameters.is_xml(_object(call)))
_KEYWORDS = Arguments(parameters.keywords, lambda call: parameters.is_python(call.name))
_DEEPSEEK_END = (Mark(deepseek.ALL_END),)
WRITTEN: dict[str, Writing] = {
    "hermes": Writing(_hermes, between=("\n",)),
    "llama3_json": Writing(_llama, between=("; ",)),
    "mistral": Writing(_mistral, (Mark(mistral.OPEN), Maybe(" "), "["), (", ",), ("]",)),
    "mistral_named": Writing(_mistral_named),
    "deepseek_v3": Writing(_deepseek, (Mark(deepseek.ALL_BEGIN),), ("\n",), _DEEPSEEK_END),
    "deepseek_v31": Writing(_deepseek_v31, (Mark(deepseek.ALL_BEGIN),), (), _DEEPSEEK_END),
    "openai": Writing(
        _harmony,
        answer=(Mark(harmony.CHANNEL), "final", Mark(harmony.MESSAGE)),
        thought=(
            (Mark(harmony.CHANNEL), "analysis", Mark(harmony.MESSAGE)),
            Mark(harmony.END),
            (Mark(harmony.START), "assistant"),
        ),
        single=True,
    ),
    "qwen3_coder": Writing(_qwen, between=("\n",), arguments=_XML),
    "pythonic": Writing(_python, ("[",), (", ",), ("]",), arguments=_KEYWORDS),
}
"""How calls are written under a constraint, by the name of the format."""


def can_write(markup: str, calls: Sequence[CallShape]) -> bool:
    """Whether all of these calls can be enforced; else they are looked at when they are written.

    Raises:
        SchemaRefused: a schema is not JSON.
    """
    if not calls:
        return True
    writing = WRITTEN.get(markup)
    if writing is None or writing.arguments is None:
        return writing is not None
    return all(map(writing.arguments.can, calls))


PLAIN = Writing(_llama)
"""Stands for a format that is not in the list, where there are no calls."""


@dataclass(frozen=True, slots=True)
class _Lark:
    """The rules of one constraint. A tag that is a control token of the model is matched as that
    token; elsewhere it is text like any other, and free text ends lazily where it begins.
    """

    constraint: Constraint
    token_of: TokenOf

    @property
    def writing(self) -> Writing:
        return WRITTEN.get(self.constraint.markup, PLAIN)

    def rules(self) -> list[str]:
        """All rules; the first one is the answer as a whole."""
        rules = [f"start: {self._start()}", f"answer: {self._answer()}", "TEXT: /(.|\\n)*/"]
        constraint = self.constraint
        rules += self._thought()
        if constraint.value is not None:
            rules.append(f"value: {self.parts(self.writing.answer)} {value_rule(constraint)}")
        if constraint.calls:
            rules += self._calls()
        return rules

    def _start(self) -> str:
        if self.writing.thought is None and self.constraint.reasoning is None:
            return "answer"
        opened = self.constraint.reasoning is not None and self.constraint.reasoning.opened
        return "thought answer" if opened else "(opening thought)? answer"

    def _thought(self) -> list[str]:
        """Free text up to its closing mark, and what templates write behind that."""
        reasoning, own = self.constraint.reasoning, self.writing.thought
        if own is not None:
            before, closing, after = own[0], own[1], self.parts(own[2])
        elif reasoning is not None:
            before, closing, after = (Mark(reasoning.opening),), Mark(reasoning.closing), "GAP"
        else:
            return []
        return [
            f"opening: {self.parts(before)}",
            f"thoughts{self._lazy(closing)}: TEXT {self.parts((closing,))}",
            f"thought: thoughts {after}",
            "GAP: /\\n{0,2}/",
        ]

    def _answer(self) -> str:
        constraint = self.constraint
        if not constraint.text:
            ways = ("value", constraint.value is not None), ("calls", bool(constraint.calls))
            return " | ".join(name for name, there in ways if there)
        if self._mark is None or self.writing.answer:
            return "calls | free"
        return "block | TEXT" if self._once else "block* TEXT"

    @property
    def _once(self) -> bool:
        return self.constraint.once or self.writing.single

    @property
    def _mark(self) -> Mark | None:
        """What a block of calls begins with, if that is a mark and so can end free text."""
        first = (self.writing.begin or self.writing.call("")[0])[0]
        return first if isinstance(first, Mark) else None

    def _calls(self) -> list[str]:
        """`calls` is a whole answer, `block` what may stand behind text."""
        writing, mark = self.writing, self._mark
        begin, between, end = writing.begin, writing.between, writing.end
        free = self.constraint.text and mark is not None and not writing.answer
        rules = []
        for place, shape in enumerate(self.constraint.calls):
            rules += self._call(shape, f"call_{place}")
        any_call = "|".join(f"call_{i}" for i in range(len(self.constraint.calls)))
        rules.append(f"call: {any_call}")
        if mark is not None:
            lazy = self._lazy(mark) if free else ""
            rules.append(f"head{lazy}: {'TEXT ' if free else ''}{self.parts((mark,))}")
        one = "call" if begin or mark is None else "head call"
        many = one if self._once else f"{one} ({self.parts(between)} {one})*"
        opened = self.parts(begin) if mark is None else f"head {self.parts(begin[1:])}"
        opened = opened if begin else ""
        rules.append(f"calls: {opened} {many} {self.parts(end)}")
        rules.append("block: calls" if begin else f"block: {one}")
        if self.constraint.text and not free:
            rules += self._free()
        return rules

    def _free(self) -> list[str]:
        """Text instead of calls: it is marked as the answer, or does not begin as a call does."""
        if self.writing.answer:
            return [f"free: {self.parts(self.writing.answer)} TEXT"]
        first = self.parts(self.writing.begin or self.writing.call("")[0])[1]
        return ["free: FREE?", f"FREE: /[^\\{first}\\s](.|\\n)*/"]

    def _call(self, call: CallShape, rule: str) -> list[str]:
        """One call, without the mark that its block begins with."""
        before, after = self.writing.call(call.name)
        if not self.writing.begin and isinstance(before[0], Mark):
            before = before[1:]
        given, *more = arguments_rules(call, self.constraint.markup, f"{rule}_given")
        whole = f"{rule}: {self.parts(before)} {rule}_given {self.parts(after)}"
        return [whole, given, *more]

    def _lazy(self, mark: Mark) -> str:
        return "[lazy]" if self.token_of(mark.text) is None else ""

    def parts(self, parts: Sequence[Part]) -> str:
        """A sequence of texts and marks as Lark writes it."""
        return " ".join(map(self._part, parts))

    def _part(self, part: Part) -> str:
        if isinstance(part, str):
            return _quoted(part)
        if isinstance(part, Maybe):
            return f"{_quoted(part.text)}?"
        token = self.token_of(part.text)
        return _quoted(part.text) if token is None else f"<[{token}]>"


def lark(constraint: Constraint, token_of: TokenOf) -> str:
    """The constraint as a grammar; `start` is everything that the model writes.

    Raises:
        SchemaRefused: a schema is not JSON.
    """
    return "%llguidance {}\n" + "\n".join(_Lark(constraint, token_of).rules()) + "\n"


def arguments_rules(call: CallShape, markup: str, rule: str) -> list[str]:
    """The arguments of one call, as rules of which the first one has this name."""

    terms = parameters.Terms(
        lambda schema: _json(dict(schema), _SPACED, strict=call.strict), call.strict
    )
    arguments = WRITTEN.get(markup, PLAIN).arguments
    if arguments is None:
        return [f"{rule}: {terms.json(_object(call))}"]
    return list(arguments.rules(_object(call), rule, terms))


def value_rule(constraint: Constraint) -> str:
    """The value that an answer may be, as the right side of a rule."""
    schema = parsed(constraint.value or "{}", "constraint.value")
    return _json(schema, _COMPACT, strict=constraint.strict)


def parsed(schema: str, field: str) -> dict[str, object]:
    """A schema as an object; `field` is the part of the constraint that it belongs to.

    Raises:
        SchemaRefused: it is not JSON.
    """
    try:
        parsed = orjson.loads(schema)
    except orjson.JSONDecodeError as error:
        raise SchemaRefused(f"a schema is not JSON: {error}", field) from error
    return parsed if isinstance(parsed, dict) else {"allOf": [parsed]}


def _json(schema: dict[str, object], form: dict[str, object], *, strict: bool) -> str:
    """A schema inside of a grammar; llguidance reads its own options from the schema's root."""
    options = {"x-guidance": form | {"lenient": not strict}}
    return "%json " + orjson.dumps(schema | options).decode()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
