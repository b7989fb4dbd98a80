"""Owns the prompt: an OpenAI-shaped transcript through the model's chat template.

Must not know tokens or engines. Two properties matter. Canonical: the text depends only on the
messages and tools, so a longer transcript starts with the prompt of a shorter one and the engine's
prefix cache hits. Safe: what people and tools wrote can never become a control token, because every
control string inside it comes out as a literal segment, which the tokenizer reads as plain text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import jinja2
import msgspec
import orjson
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.inference.core.effort import knobs_of
from shared.contracts.agents import Effort

# Templates that write calls so look at the ids, too.
_SHORT_IDS = "[TOOL_CALLS]"
# DeepSeek's write the calls of a message only where it says nothing beside them, and look so.
_SILENT = re.compile(r"""\bcontent(?:["']\])? is (?:not )?none\b""")
# Unicode noncharacters: no text that means anything holds them (Unicode 16, section 23.7).
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
# Where a template looks for what the model thought: Qwen's and most others, and that of gpt-oss.
_RECALLED = re.compile(r"""\b(reasoning_content)\b|\bmessage(?:\.|\[["'])(thinking)\b""")
# The template itself looks for these in what the model said earlier (Qwen3 drops old reasoning).
_REASONING = frozenset({"<think>", "</think>"})


class TemplateFailed(ValueError):
    """The template refused the messages, or could not be read."""


class _Arguments(dict[str, Any]):
    """The arguments of a call: an object, as most templates take it, and its JSON, as those of
    DeepSeek do, which put it between two texts.
    """

    def __str__(self) -> str:
        return _to_json(self)

    def __add__(self, other: str) -> str:
        return f"{self}{other}"

    def __radd__(self, other: str) -> str:
        return f"{other}{self}"


class Segment(msgspec.Struct, frozen=True):
    """A piece of a prompt; in a `literal` one no control token may be recognised."""

    text: str
    literal: bool = False


class ChatTemplate:
    """One model's chat template, compiled once."""

    def __init__(
        self,
        source: str,
        control: Iterable[str],
        variables: Mapping[str, str] | None = None,
        strftime: Callable[[str], str] | None = None,
    ) -> None:
        """`control` are the texts of all added tokens, `variables` e.g. bos_token and eos_token."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        if strftime is not None:
            environment.globals["strftime_now"] = strftime
        try:
            self._template = environment.from_string(source)
            self._knobs = knobs_of(environment.parse(source))
        except jinja2.TemplateError as error:
            raise TemplateFailed(f"chat template: {error}") from error
        self._variables = dict(variables or {})
        found = _RECALLED.search(source)
        self._recalled = found and (found[1] or found[2])
        self._short_ids = _SHORT_IDS in source
        self._silent = _SILENT.search(source) is not None
        words = frozenset(word for word in control if word) | {_OPEN, _CLOSE}
        self._all = _any_of(words)
        self._own = _any_of(words - _REASONING)

    @property
    def can_stop_thinking(self) -> bool:
        """Whether the template has a way to ask for an answer without thinking."""
        return self._knobs.can_stop

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        effort: Effort | None = None,
    ) -> tuple[Segment, ...]:
        """Return the prompt; raises `TemplateFailed` when the template refuses the messages."""
        literals: list[str] = []
        shown = [self._message(message, literals) for message in messages]
        offered = [_protect(tool, self._all, literals) for tool in tools]
        try:
            text = self._template.render(
                messages=shown,
                tools=offered or None,
                add_generation_prompt=add_generation_prompt,
                **self._variables,
                **self._knobs.variables(effort),
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise TemplateFailed(f"chat template: {error}") from error
        return _segments(text, literals)

    def recalling(
        self, messages: Sequence[Mapping[str, Any]], thoughts: Mapping[int, str]
    ) -> Sequence[Mapping[str, Any]]:
        """The messages with what the model thought before them, where the template wants it.

        gpt-oss's template refuses a call that has both text and thoughts.
        """
        key = self._recalled
        if key is None or not thoughts:
            return messages
        return [
            {**message, key: thoughts[place]}
            if place in thoughts and not (key == "thinking" and message.get("content"))
            else message
            for place, message in enumerate(messages)
        ]

    def _message(self, message: Mapping[str, Any], literals: list[str]) -> dict[str, Any]:
        shown = {key: value for key, value in message.items() if value is not None}
        shown["content"] = _flat(shown.get("content", ""))
        if calls := shown.pop("tool_calls", None):
            shown["tool_calls"] = [self._readable(call) for call in calls]
            if self._silent:
                shown["content"] = shown["content"] or None
        if "tool_call_id" in shown:
            shown["tool_call_id"] = self._id(shown["tool_call_id"])
        control = self._own if shown.get("role") == "assistant" else self._all
        protected: dict[str, Any] = _protect(shown, control, literals)
        return protected

    def _readable(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Give the template the arguments as an object, as the Hugging Face templates expect."""
        function = dict(call.get("function", call))
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            with suppress(orjson.JSONDecodeError):
                arguments = orjson.loads(arguments or "{}")
        if isinstance(arguments, Mapping):
            arguments = _Arguments(arguments)
        shown = {"type": "function", "function": function | {"arguments": arguments}}
        return shown | {"id": self._id(call["id"])} if "id" in call else shown

    def _id(self, name: object) -> object:
        """The id of a call; Mistral's templates refuse one that has not nine letters or digits."""
        if not self._short_ids:
            return name
        return hashlib.blake2b(str(name).encode(), digest_size=5).hexdigest()[:9]


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Longest first: where one control string begins another, the longer one is meant."""
    return re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)))


def _protect(value: Any, control: re.Pattern[str], literals: list[str]) -> Any:  # noqa: ANN401 - JSON
    """Copy a JSON value with every control string in it replaced by a mark."""
    if isinstance(value, str):
        if control.search(value) is None:
            return value

        def mark(found: re.Match[str]) -> str:
            literals.append(found.group())
            return f"{_OPEN}{len(literals) - 1}{_CLOSE}"

        return control.sub(mark, value)
    if isinstance(value, Mapping):
        kind = _Arguments if isinstance(value, _Arguments) else dict
        return kind(
            (_protect(key, control, literals), _protect(item, control, literals))
            for key, item in value.items()
        )
    if isinstance(value, Sequence):
        return [_protect(item, control, literals) for item in value]
    return value


def _segments(text: str, literals: Sequence[str]) -> tuple[Segment, ...]:
    pieces: list[Segment] = []
    for position, piece in enumerate(_MARK.split(text)):
        if position % 2:
            pieces.append(Segment(literals[int(piece)], literal=True))
        elif piece:
            pieces.append(Segment(piece))
    return tuple(pieces)


def _flat(content: Any) -> str:  # noqa: ANN401 - OpenAI allows a string or a list of parts
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise TemplateFailed("content is neither text nor a list of parts")
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise TemplateFailed("a content part is not text, and this model reads only text")
    return "".join(map(str, texts))


def _to_json(
    value: Any,  # noqa: ANN401 - JSON
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers does: no HTML escapes, and the spaces models were trained on.

    The standard library on purpose: orjson cannot write ", " and ": ".
    """
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
