"""Tasks of more than one call: look up then compute, recall then compute, several at once.

Owns how requests are joined and which messages a whole task consists of. Knows nothing of
sessions, tools blocks or rendering.
"""

from __future__ import annotations

import json
from typing import Any

from . import asking, facts, intents
from .arithmetic import calculate, written
from .intents import Outcome, Part
from .vocabulary import Voice, capital, dressed, noisy, query, spans

Message = dict[str, Any]
PLURAL = {"person": "people", "company": "companies", "box": "boxes", "child": "children",
          "people": "people", "guests": "guests", "months": "months", "day": "days"}  # fmt: skip


def call(tool: str, arguments: dict[str, str]) -> dict[str, Any]:
    """One tool call as OpenAI shapes it."""
    text = json.dumps(arguments, ensure_ascii=False)
    return {"type": "function", "function": {"name": tool, "arguments": text}}


def calls(pairs: list[tuple[str, Outcome]]) -> list[Message]:
    """The assistant turn with the calls, then the tool turns."""
    turn: Message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [call(tool, outcome.arguments) for tool, outcome in pairs],
    }
    return [turn, *({"role": "tool", "content": outcome.result} for _, outcome in pairs)]


def said(text: str) -> Message:
    """A final answer."""
    return {"role": "assistant", "content": text}


def plural(unit: str, count: int) -> str:
    """The unit for a count."""
    return unit if count == 1 else PLURAL.get(unit, unit + "s")


def follow_up(voice: Voice, units: list[str], monthly: bool = False) -> tuple[str, str, str, str]:
    """Something to do with a number: the operation, its operand, question and command."""
    rng = voice.rng
    count = rng.randint(2, 12) if voice.chance(0.65) else rng.randint(2, 120)
    if monthly and voice.chance(0.2):
        return "*", "12", voice.worded("year question"), voice.worded("year command")
    if units and voice.chance(0.5):
        slots = {"k": written(voice, str(count), False), "u": plural(rng.choice(units), count)}
        question = voice.worded("units question", slots)
        return "*", str(count), question, voice.worded("units command", slots)
    sign = rng.choice("***++--//%%2hpm")
    if sign in "%pm":
        count = rng.randint(1, 100) if voice.chance(0.5) else 5 * rng.randint(1, 12)
    slots = {"k": written(voice, str(count), False)}
    question = voice.worded(f"then {sign} question", slots)
    return sign, str(count), question, voice.worded(f"then {sign} command", slots)


FORMULAS = {"%": "{n} * {k} / 100", "2": "2 * {n}", "h": "{n} / 2",
            "p": "{n} + {n} * {k} / 100", "m": "{n} - {n} * {k} / 100"}  # fmt: skip


def formula(number: str, sign: str, operand: str) -> str:
    """The expression of a follow-up."""
    return FORMULAS.get(sign, "{n} " + sign + " {k}").format(n=number, k=operand)


def joined(voice: Voice, first: dict[str, str], question: str, order: str) -> str:
    """First a look-up or recall, then a follow-up, in one request."""
    q, e = first.get("q", ""), first.get("e", "")
    c = first.get("c") or voice.expand("(look up|find|find out|check|get|search for) ") + e
    slots = {"q": q, "c": c, "n": question, "o": order}
    slots |= {"Q": capital(q), "C": capital(c), "N": capital(question), "O": capital(order)}
    return capital(voice.worded("joined question" if q and voice.chance(0.6) else "joined", slots))


def ahead(voice: Voice, q: str) -> tuple[str, str, str]:
    """A request that names the operand first; its text, operation and operand."""
    sign = voice.rng.choice("***+-//%")
    count = voice.rng.randint(2, 12) if sign != "%" else 5 * voice.rng.randint(1, 18)
    slots = {"k": written(voice, str(count), False), "q": q, "Q": capital(q)}
    return capital(voice.worded(f"ahead {sign}", slots)), sign, str(count)


def direct(voice: Voice, noun: str, sign: str, operand: str) -> str:
    """A follow-up around a noun phrase: "multiply the [hotel limit] by 3"."""
    text = voice.worded(f"around {sign}", {"k": operand, "x": noun})
    if text.startswith(("what", "how")):
        return capital(text) + "?"
    return capital(asking.command(voice, text))


def heard(voice: Voice, text: str, careful: bool = False) -> tuple[Message, list[str]]:
    """The user's turn as typed, and its marked spans."""
    plain, marked = spans(noisy(voice, dressed(voice, text), careful))
    return {"role": "user", "content": plain}, marked


def two_step_request(voice: Voice, fact: facts.Fact) -> tuple[str, str, str]:
    """The wording of "look up, then compute", the operation and its operand."""
    monthly = fact.attribute.priced and "month" in fact.sentence
    sign, operand, question, order = follow_up(voice, fact.attribute.units, monthly)
    noun = intents.embedded(voice, fact)
    q = query(facts.worded(voice, fact, fact.attribute.questions)[:-1])
    roll = voice.rng.random()
    if noun.startswith(("the ", "a ")) and roll < 0.35:
        return direct(voice, query(noun), sign, operand), sign, operand
    if roll < 0.5:
        return ahead(voice, q)
    return joined(voice, {"q": q, "e": query(noun)}, question, order), sign, operand


def lookup_then_compute(voice: Voice) -> list[Message]:
    """Search, calculate, answer with both."""
    fact = facts.draw(voice, numeric=True)
    found = facts.search(voice, fact, missing=voice.chance(0.05))
    if voice.chance(0.05):
        found = facts.Found("no results")
    text, sign, operand = two_step_request(voice, fact)
    user, marked = heard(voice, text)
    looked = intents.searched(voice, marked[0], found)
    turns = [user, *calls([("search_knowledge", looked)])]
    if not found.sentence:
        return [*turns, said(looked.answer)]
    expression = formula(fact.number, sign, operand)
    result = calculate(expression)
    turns += calls([("calculator", Outcome({"expression": expression}, result, ""))])
    if result.startswith("error"):
        return [*turns, said(intents.sum_answer(expression, result))]
    claim = found.sentence.rstrip(".")
    return [*turns, said(f"{claim}, so the result is {result}. (source: {found.source})")]


def recall_then_compute(voice: Voice, memory: dict[str, str]) -> list[Message]:
    """Recall, calculate, answer with both."""
    part = intents.recalling(voice, memory, number=True)
    sign, operand, question, order = follow_up(voice, [])
    if voice.chance(0.6):
        text = direct(voice, f"my [{part.extra['key']}]", sign, operand)
    else:
        text = joined(voice, part.forms, question, order)
    user, marked = heard(voice, text)
    outcome = part.settle(marked)
    turns = [user, *calls([("recall", outcome)])]
    if not outcome.result.isdigit():
        return [*turns, said(outcome.answer)]
    expression = formula(outcome.result, sign, operand)
    result = calculate(expression)
    turns += calls([("calculator", Outcome({"expression": expression}, result, ""))])
    claim = outcome.answer.rstrip(".")
    return [*turns, said(f"{claim}, so the result is {result}.")]


def two_lookups_then_sum(voice: Voice) -> list[Message]:
    """Two searches at once, one calculation, one answer."""
    drawn = [facts.noun(voice, numeric=True) for _ in range(2)]
    picked, nouns = [fact for fact, _ in drawn], [query(phrase) for _, phrase in drawn]
    sign = voice.rng.choice("+++-*")
    text = voice.worded(f"two {sign}", {"a": nouns[0], "b": nouns[1]})
    swapped = text.startswith("subtract")
    user, marked = heard(voice, capital(text))
    if swapped:
        picked.reverse()
    found = [facts.search(voice, fact) for fact in picked]
    pairs = [("search_knowledge", intents.searched(voice, span, item))
             for span, item in zip(marked, found, strict=True)]  # fmt: skip
    numbers = [fact.number for fact in (reversed(picked) if swapped else picked)]
    expression = f" {sign} ".join(numbers)
    outcome = Outcome({"expression": expression}, calculate(expression), "")
    answers = [o.answer for _, o in pairs] + [intents.sum_answer(expression, outcome.result)]
    return [user, *calls(pairs), *calls([("calculator", outcome)]), said(" ".join(answers))]


def clause(voice: Voice, part: Part) -> tuple[str, str]:
    """A form and its text, for joining."""
    forms = {k: v for k, v in part.forms.items() if k in "qc"}
    if "e" in part.forms and (not forms or voice.chance(0.4)):
        verb = voice.expand("(look up|find out|check|tell me|find|search for) ")
        forms = {"c": verb + part.forms["e"]}
    form = voice.rng.choice(list(forms))
    return form, forms[form]


def in_parallel(voice: Voice, parts: list[Part], absent: set[str]) -> list[Message]:
    """Several requests in one turn, answered together."""
    pieces = [clause(voice, part) for part in parts]
    ends = [text + ("?" if form == "q" else ".") for form, text in pieces]
    texts = [text for _, text in pieces]
    first, rest, mark = capital(ends[0]), ends[1:], ends[-1][-1]
    if all(form == "c" for form, _ in pieces) and voice.chance(0.3):
        text = voice.expand("(please|can you|could you|I need you to) ") + " and ".join(texts) + "."
    elif voice.chance(0.1):
        text = " ".join(f"{n + 1}. {capital(end)}" for n, end in enumerate(ends))
    elif voice.chance(0.5):
        text = f" {voice.worded('between sentences')} ".join([first, *rest])
    elif voice.chance(0.2):
        text = " ".join(capital(end) for end in ends)
    elif len(parts) > 2 and voice.chance(0.4):
        text = ", ".join(texts[:-1]) + " and " + texts[-1] + mark
    else:
        lead = voice.worded("several", {"n": "two" if len(parts) == 2 else "three"})
        middle = f" {voice.worded('between')} ".join(texts)
        text = (lead + " " if voice.chance(0.25) else "") + middle + mark
    counts = [len(spans(own)[1]) for own in texts]
    return answered(voice, capital(text), list(zip(parts, counts, strict=True)), absent)


def answered(
    voice: Voice, text: str, parts: list[tuple[Part, int]], absent: set[str]
) -> list[Message]:
    """The turns that follow a request of several parts; each has a number of marked spans."""
    user, marked = heard(voice, text, careful=any(part.careful for part, _ in parts))
    pairs, answers = [], []
    for part, count in parts:
        outcome = part.settle(marked[:count])
        marked = marked[count:]
        if part.tool in absent:
            if intents.MISSING[part.tool] not in answers:
                answers.append(intents.MISSING[part.tool])
            continue
        pairs.append((part.tool, outcome))
        answers.append(outcome.answer)
    turns = calls(pairs) if pairs else []
    return [user, *turns, said(" ".join(answers))]


def single(voice: Voice, part: Part, absent: set[str]) -> list[Message]:
    """One request, one call; or why it cannot be done."""
    user, marked = heard(voice, asking.sentence(voice, part), part.careful)
    if part.tool in absent:
        return [user, said(intents.MISSING[part.tool])]
    outcome = part.settle(marked)
    return [user, *calls([(part.tool, outcome)]), said(outcome.answer)]
