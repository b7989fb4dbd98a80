"""The building blocks of tasks: one request to one tool.

Owns `Part`: how a request is worded, which call it needs, what the tool returns and what is
answered. Knows nothing of how parts are joined into tasks and sessions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import arithmetic, facts, notes
from .ranking import Sentence
from .vocabulary import Voice, capital, plain, query, topic, uncapital

# Questions whose topic cannot be replaced by "it".
FIXED = re.compile(
    r",|my \[|\{s\}|\|\)\[|(new|remaining|unused|broken|damaged|stolen|missing)\)? \["
)
MISSING = {
    "calculator": "I cannot do that without a calculator.",
    "search_knowledge": "I cannot look that up without a search tool.",
    "current_time": "I cannot tell the time without a clock tool.",
    "remember": "I cannot remember that without a memory tool.",
    "recall": "I cannot recall that without a memory tool.",
}
BROKEN = [
    "search unavailable", "timeout", "the index is not ready", "not allowed", "storage full",
    "service unavailable", "too many requests", "connection lost", "internal error",
]  # fmt: skip


@dataclass
class Outcome:
    """One call with its result and what is said about it."""

    arguments: dict[str, str]
    result: str
    answer: str


@dataclass
class Part:
    """A request to one tool; `forms` maps q, c, e, s to wordings with marked spans."""

    tool: str
    forms: dict[str, str]
    settle: Callable[[list[str]], Outcome]
    careful: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


def refusal(error: str) -> str:
    """What is said about a tool's error."""
    return f"I could not do that: {error.removeprefix('error: ')}."


def sum_answer(expression: str, result: str) -> str:
    """What is said about a calculator result."""
    if result.startswith("error: "):
        return f"I could not compute that: {result[7:]}."
    return f"{expression} = {result}."


def calculation(voice: Voice, joinable: bool = False) -> Part:
    """Ask the calculator."""
    while True:
        found = arithmetic.draw(voice)
        if not joinable or found.form != "s":
            return sum_part(found)


def sum_part(found: arithmetic.Sum) -> Part:
    """A request for one sum."""

    def settle(_: list[str]) -> Outcome:
        result = found.result
        return Outcome({"expression": found.expression}, result,
                       sum_answer(found.expression, result))  # fmt: skip

    return Part("calculator", {found.form: found.text}, settle, careful=True)


def embedded(voice: Voice, fact: facts.Fact) -> str:
    """A clause such as "how many days of [sick leave] we get"."""
    options = fact.attribute.embedded or fact.attribute.questions
    return facts.worded(voice, fact, options).rstrip("?")


def lookup(voice: Voice, joinable: bool = False) -> Part:
    """Ask the documents."""
    fact = facts.draw(voice)
    roll = voice.rng.random()
    forms = {
        "q": facts.worded(voice, fact, fact.attribute.questions)[:-1],
        "e": embedded(voice, fact),
    }
    if not joinable:
        forms.update(indirect(voice, fact, forms["e"]))
    found = facts.search(voice, fact, missing=roll < 0.07)
    if 0.07 <= roll < 0.15:
        found = facts.Found("no results")
    elif 0.15 <= roll < 0.16:
        found = facts.Found("error: " + voice.rng.choice(BROKEN))
    elif 0.16 <= roll < 0.22 and not joinable:
        forms, found = generic(voice, fact)
    marked = {name: form if "<" in form else query(form) for name, form in forms.items()}
    return search_part(voice, marked, found)


def search_part(voice: Voice, forms: dict[str, str], found: facts.Found) -> Part:
    """A request that the given result answers."""

    def settle(spans: list[str]) -> Outcome:
        return searched(voice, spans[0], found)

    return Part("search_knowledge", forms, settle)


def searched(voice: Voice, span: str, found: facts.Found) -> Outcome:
    """The search for a marked question: what the tool returns and what is said about it."""
    asked = plain(span)
    result = found.result(voice, asked)
    return Outcome({"query": asked}, result, quoted(topic(span), found))


def indirect(voice: Voice, fact: facts.Fact, clause: str) -> dict[str, str]:
    """Rarer ways to ask: a bare noun phrase, or the topic first and then "it"."""
    out = {}
    if clause.startswith("the ") and voice.chance(0.3):
        tail = voice.expand("(?|? |, please| please|.|)")
        out["s"] = query(clause.removeprefix("the ")) + tail
    elif voice.chance(0.25):
        options = [q for q in fact.attribute.questions if not FIXED.search(q)]
        question = voice.rng.choice(options or ["what is known about [{q}]?"])
        question = voice.expand(question.replace("[{q}]", "\0"))
        pronoun = "that" if fact.kind.name == "rules" else "it"
        for article in ("the ", "a ", ""):
            question = question.replace(article + "\0", pronoun)
        if "[" not in question:
            article = "a " if fact.kind.name == "equipment" else fact.kind.article
            lead = voice.worded("mention", {"x": f"{article}[{fact.topic}]"})
            question = uncapital(question) if lead.endswith(",") else capital(question)
            out["s"] = query(f"{lead} {question[:-1]}") + "?"
    return out


def quoted(about: str, found: facts.Found) -> str:
    """What answers with its source, or that nothing does."""
    if found.quote:
        return f"{found.quote} (source: {found.source})"
    if found.text.startswith("error: "):
        return refusal(found.text)
    return f"I found nothing about {about} in the documents."


def generic(voice: Voice, fact: facts.Fact) -> tuple[dict[str, str], facts.Found]:
    """A question about a topic as a whole: what is marked in the passage about it answers."""
    extra = facts.neighbours(voice, fact, voice.rng.choice([0, 1, 2]))
    rows = [facts.other_passage(voice, fact) for _ in range(voice.rng.choice([0, 1, 1, 2]))]
    rows.append([Sentence(text, "same topic") for text in [fact.sentence, *extra]])
    files = facts.filenames(voice, len(rows))
    passages = [facts.headed(voice, fact, *row) for row in zip(files, rows, strict=True)]
    article = fact.kind.article if voice.chance(0.5) else ""
    slots = {"q": fact.topic}
    forms = {
        "q": voice.worded("generic question", slots),
        "c": voice.worded("generic command", slots),
    }
    forms = {name: form.replace(" [", f" {article}[") for name, form in forms.items()}
    forms["c"] = re.sub(r"(\[[^\]]*\])", r"<\1>", forms["c"])
    return forms, facts.Found("", fact.sentence, passages[-1].file, passages, marked=True)


def clock(voice: Voice) -> Part:
    """Ask for the time."""
    if voice.chance(0.14):
        name, zone, known = "", "UTC", True
        kind = "now"
    else:
        name, zone, known = notes.place(voice)
        kind = "time"
    return clock_part(voice, kind, name, zone if known else "")


def clock_part(voice: Voice, kind: str, name: str, zone: str) -> Part:
    """A request for the time at a place; without a zone the clock does not know the place."""
    known = bool(zone)
    slots = {"c": f"[{name}]" if not known else name}
    forms = {
        "q": voice.worded(f"{kind} question", slots),
        "c": voice.worded(f"{kind} command", slots),
    }

    def settle(spans: list[str]) -> Outcome:
        if not known:
            asked = spans[0].removeprefix("the ")
            error = f'error: unknown timezone "{asked}"'
            return Outcome({"timezone": asked}, error, refusal(error))
        result = notes.moment(voice, zone)
        return Outcome({"timezone": zone}, result, time_answer(result))

    return Part("current_time", forms, settle, careful=True)


def time_answer(result: str) -> str:
    """What is said about the clock's result."""
    when, _, zone = result.rstrip(")").partition(" (")
    return f"In {zone} it is {when}."


def noting(voice: Voice, memory: dict[str, str], joinable: bool = False) -> Part:
    """Ask to remember something."""
    name, kind = notes.key(voice)
    stored = notes.value(voice, kind)
    whose = "my" if joinable or voice.chance(0.85) else "the"
    slots = {"k": name, "v": stored, "my": whose}
    forms = {"c": voice.worded("remember command", slots)}
    if not joinable and voice.chance(0.5):
        forms = {"s": voice.worded("remember sentence", slots)}

    def settle(spans: list[str]) -> Outcome:
        first, second = spans
        text = next(iter(forms.values()))
        if text.index("[" + stored) < text.index("[" + name + "]"):
            first, second = second, first
        owner = "your" if whose == "my" or (" the [" not in text and "The [" not in text) else "the"
        if voice.chance(0.015):
            error = "error: " + voice.rng.choice(BROKEN)
            return Outcome({"key": first, "value": second}, error, refusal(error))
        memory[first] = second
        answer = f"I will remember that {owner} {first} is {second}."
        return Outcome({"key": first, "value": second}, "saved", answer)

    return Part("remember", forms, settle)


def recalling(voice: Voice, memory: dict[str, str], number: bool = False) -> Part:
    """Ask for something remembered, in this session or an earlier one."""
    known = [k for k, v in memory.items() if v.isdigit() or not number]
    if known and voice.chance(0.7):
        name, kind = voice.rng.choice(known), ""
    else:
        name, kind = notes.key(voice)
        while number and kind != "number":
            name, kind = notes.key(voice)
    slots = {"k": name}
    forms = {
        "q": voice.worded("recall question", slots),
        "c": voice.worded("recall command", slots),
    }

    def settle(spans: list[str]) -> Outcome:
        asked = spans[0]
        lowered = {k.lower(): v for k, v in memory.items()}
        stored = lowered.get(asked.lower()) or (
            notes.value(voice, kind or "number") if number or voice.chance(0.6) else ""
        )
        if not stored:
            text = f"I have nothing stored about your {asked}."
            return Outcome({"key": asked}, "nothing stored", text)
        return Outcome({"key": asked}, stored, f"Your {asked} is {stored}.")

    return Part("recall", forms, settle, extra={"key": name})


def draw(voice: Voice, tool: str, memory: dict[str, str], joinable: bool = False) -> Part:
    """A request to the named tool."""
    if tool == "calculator":
        return calculation(voice, joinable)
    if tool == "search_knowledge":
        return lookup(voice, joinable)
    if tool == "current_time":
        return clock(voice)
    if tool == "remember":
        return noting(voice, memory, joinable)
    return recalling(voice, memory)
