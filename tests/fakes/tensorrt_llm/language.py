"""What the look-alike's model says: a script over token ids, bent by grammars and biases.

A prompt whose last instruction is "Say exactly: ..." is answered with that text, and when a tool
has answered since, with what the tool said. Every other answer is the one that
`tests.fakes.instant_engine` would give: it follows from prompt, seed and place.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

_ORDER = re.compile(r"Say exactly: (.*?)(?:<\|im_end\|>|$)", re.DOTALL)
_RESULT = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)
_COMPACT = {"whitespace_flexible": False}


class Language:
    """The model of a folder: its vocabulary, and the way from a prompt to an answer."""

    def __init__(self, folder: str) -> None:
        path = Path(folder)
        generation = json.loads((path / "generation_config.json").read_bytes())
        eos = generation["eos_token_id"]
        self.eos_token_id: int = eos[0] if isinstance(eos, list) else eos
        config = json.loads((path / "config.json").read_bytes())
        self.vocabulary: int = config["vocab_size"]
        # the real library takes one end token for its grammars
        self.tokens = LLTokenizer(
            str(path / "tokenizer.json"), n_vocab=self.vocabulary, eos_token=self.eos_token_id
        )

    def script(self, prompt: list[int], seed: int) -> list[int] | None:
        """The tokens of an ordered answer and their end; None where the echo speaks."""
        said = self.tokens.decode_str(prompt)
        orders = list(_ORDER.finditer(said))
        if not orders:
            return None
        results = _RESULT.findall(said, orders[-1].end())
        text = f"The tool said {results[-1]}." if results else orders[-1].group(1)
        return [*self.tokens.tokenize_str(text, parse_special=True), self.eos_token_id]

    def echo(self, prompt: list[int], seed: int, place: int) -> int:
        start = sum((i + 1) * token for i, token in enumerate(prompt)) + seed
        return (start + 7 * place) % self.vocabulary

    def grammar(self, kind: str, guide: str) -> LLMatcher:
        """A compiled guide; raises ValueError as the library's matcher factories do."""
        if kind == "structural_tag":
            text = LLMatcher.grammar_from_lark(Tags(self.tokens).lark(json.loads(guide)))
        elif kind == "json":
            text = LLMatcher.grammar_from_json_schema(guide, overrides=_COMPACT)
        elif kind == "grammar":
            text = LLMatcher.grammar_from_lark(guide)
        else:
            raise ValueError(f"Unsupported guide type: {kind}.")
        matcher = LLMatcher(self.tokens, text, log_level=0)
        if matcher.is_error():
            raise ValueError(f"matcher error: {matcher.get_error()}")
        return matcher


class Speech:
    """One answer on its way."""

    def __init__(self, language: Language, prompt: list[int], params: dict[str, Any]) -> None:
        self._language, self._prompt, self._params = language, prompt, params
        self._seed = params["seed"] if params["seed"] and not params["greedy"] else 0
        self._script = language.script(prompt, self._seed)
        self._said: Counter[int] = Counter()
        self._place = 0
        guide = params["guide"]
        self._matcher = language.grammar(*guide) if guide else None

    def next(self) -> int:
        """The next token."""
        token = self._nearest(self._wanted())
        self._place += 1
        self._said[token] += 1
        if self._matcher is not None and token != self._language.eos_token_id:
            self._matcher.consume_token(token)
        return token

    def _wanted(self) -> int:
        if self._script is None:
            return self._language.echo(self._prompt, self._seed, self._place)
        return self._script[min(self._place, len(self._script) - 1)]

    def _nearest(self, wanted: int) -> int:
        """The wanted token, or the next one that grammar, bias and penalties let through."""
        allowed = self._allowed()
        for token in np.roll(allowed, -int(np.searchsorted(allowed, wanted))):
            if self._weight(int(token)) > -50.0:
                return int(token)
        return self._language.eos_token_id

    def _weight(self, token: int) -> float:
        said, bias = self._said[token], self._params["bias"]
        loss = said * self._params["frequency"] + bool(said) * self._params["presence"]
        return float(bias[token] if bias else 0.0) - loss

    def _allowed(self) -> NDArray[np.int64]:
        """What the grammar lets through. Where an answer that was ordered could end and go on, it
        ends when all of it has been said."""
        eos = self._language.eos_token_id
        if self._matcher is None:
            return np.arange(self._language.vocabulary)
        if self._matcher.is_stopped():
            return np.array([eos])
        mask = np.zeros((self._language.vocabulary + 31) // 32, np.int32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[: self._language.vocabulary]
        allowed = self._as_text(np.flatnonzero(bits))
        if self._script is None or eos not in allowed or len(allowed) == 1:
            return allowed
        return np.array([eos]) if self._wanted() == eos else allowed[allowed != eos]

    def _as_text(self, allowed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where a schema forces the text of a control token, llguidance lets the token itself
        through, which it does not take then; the first byte leads past it."""
        tokens = self._language.tokens
        assert self._matcher is not None
        if len(allowed) != 1 or not tokens.is_special_token(int(allowed[0])):
            return allowed
        if self._matcher.validate_tokens([int(allowed[0])]):
            return allowed
        return np.array(tokens.tokenize_bytes(self._matcher.compute_ff_bytes()[:1]))


class Tags:
    """A structural tag of xgrammar in llguidance's Lark: the forms that Millrace writes.

    xgrammar matches a control token by its text; llguidance by its id, so those are put in.
    """

    def __init__(self, tokens: LLTokenizer) -> None:
        self._tokens = tokens
        self._rules: list[str] = []

    def lark(self, tag: dict[str, Any]) -> str:
        if tag.get("type") != "structural_tag":
            raise ValueError("a structural tag has the type structural_tag")
        start = self._rule(tag["format"])
        lines = ["%llguidance {}", f"start: {start}", "TEXT: /(.|\\n)*/", *self._rules]
        return "\n".join(lines) + "\n"

    def _rule(self, form: dict[str, Any]) -> str:
        kind = form["type"]
        if kind == "json_schema":
            return f"%json {json.dumps(form['json_schema'] | {'x-guidance': _COMPACT})}"
        if kind == "any_text":
            return "TEXT"
        if kind in ("or", "sequence"):
            names = [self._named(element) for element in form["elements"]]
            return (" | " if kind == "or" else " ").join(names)
        if kind == "const_string":
            return self._text(form["value"])
        if kind == "tag":
            return self._tag(form)
        if kind == "tags_with_separator":
            any_tag = f"({' | '.join(self._named(one) for one in form['tags'])})"
            more = f" ({self._text(form['separator'])} {any_tag})*"
            whole = any_tag if form["stop_after_first"] else any_tag + more
            return whole if form["at_least_one"] else f"({whole})?"
        if kind == "triggered_tags":
            return self._triggered(form)
        raise ValueError(f"unknown format {kind}")

    def _tag(self, form: dict[str, Any]) -> str:
        begin, end = self._text(form["begin"]), self._text(form["end"])
        if form["content"]["type"] != "any_text":
            return f"{begin} {self._named(form['content'])} {end}"
        lazy = "[lazy]" if end.startswith('"') else ""  # up to the first end
        name = f"part_{len(self._rules)}"
        self._rules.append(f"{name}{lazy}: TEXT {end}")
        return f"{begin} {name}"

    def _triggered(self, form: dict[str, Any]) -> str:
        """Free text until a trigger, then the rest of a tag that begins with it, many times."""
        (trigger,) = form["triggers"]
        bodies = []
        for one in form["tags"]:
            if not one["begin"].startswith(trigger):
                raise ValueError("Each tag's begin must start with exactly one trigger")
            bodies.append(self._named({**one, "begin": one["begin"][len(trigger) :]}))
        lazy = "[lazy]" if self._text(trigger).startswith('"') else ""
        self._rules.append(f"head{lazy}: TEXT {self._text(trigger)}")
        called = f"head ({' | '.join(bodies)})"
        if form["stop_after_first"]:
            return called if form["at_least_one"] else f"{called} | TEXT"
        return f"({called}){'+' if form['at_least_one'] else '*'} TEXT"

    def _named(self, form: dict[str, Any]) -> str:
        body = self._rule(form)
        name = f"part_{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name

    def _text(self, text: str) -> str:
        parts: list[str] = []
        plain: list[int] = []
        for token in self._tokens.tokenize_str(text, parse_special=True):
            if self._tokens.is_special_token(token):
                parts += [*self._plain(plain), f"<[{token}]>"]
                plain = []
            else:
                plain.append(token)
        return " ".join([*parts, *self._plain(plain)]) or '""'

    def _plain(self, tokens: list[int]) -> list[str]:
        return [json.dumps(self._tokens.decode_str(tokens), ensure_ascii=False)] if tokens else []
