"""Tasks of more than one call: look up then compute, recall then compute, several at once.

Owns how requests are joined and which messages a whole task consists of. Knows nothing of
sessions, tools blocks or rendering.
"""

from __future__ import annotations

import json
from typing import Any

from . import facts, intents
from .arithmetic import calculate
from .intents import Outcome, Part
from .vocabulary import Voice, capital, dressed, noisy, spans

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


def follow_up(voice: Voice, units: list[str]) -> tuple[str, str, str, str]:
    """Something to do with a number: the operation, its operand, question and command."""
    rng = voice.rng
    count = rng.randint(2, 12) if voice.chance(0.6) else rng.randint(2, 150)
    if units and voice.chance(0.55):
        slots = {"k": str(count), "u": plural(voice.rng.choice(units), count)}
        question = voice.worded("units question", slots)
        return "*", str(count), question, voice.worded("units command", slots)
    sign = rng.choice("***++--//%%2h")
    if sign == "%":
        count = rng.randint(1, 100)
    slots = {"k": str(count)}
    question = voice.worded(f"then {sign} question", slots)
    return sign, str(count), question, voice.worded(f"then {sign} command", slots)


def formula(number: str, sign: str, operand: str) -> str:
    """The expression of a follow-up."""
    if sign == "%":
        return f"{number} * {operand} / 100"
    if sign == "2":
        return f"2 * {number}"
    if sign == "h":
        return f"{number} / 2"
    return f"{number} {sign} {operand}"


def joined(voice: Voice, first: dict[str, str], question: str, order: str) -> str:
    """First a look-up or recall, then a follow-up, in one request."""
    q, e = first.get("q", ""), first.get("e", "")
    c = first.get("c") or voice.expand("(look up|find|find out|check|get|search for) ") + e
    forms = [
        f"{c} and {order}.", f"{c}, then {order}.", f"{c} and then {order}.", f"{c}. Then {order}.",
        f"{c} and tell me {question}." if "what is" in question else f"{c}; {question}?",
        f"first {c}, then {order}.", f"please {c} and {order}.", f"can you {c} and {order}?",
        f"I need you to {c} and {order}.", f"{c}. {capital(question)}?",
    ]  # fmt: skip
    if q:
        forms += [
            f"{q}, and {question}?", f"{q} and {question}?", f"{q}? And {question}?",
            f"{q}? {capital(order)}.", f"{q}, and then {order}.", f"{q}? Then {order}, please.",
            f"{q}? {capital(question)}?", f"tell me: {q} and {question}?",
        ]  # fmt: skip
    return capital(voice.rng.choice(forms))


def direct(voice: Voice, noun: str, sign: str, operand: str) -> str:
    """A follow-up around a noun phrase: "multiply the [hotel limit] by 3"."""
    text = voice.worded(f"around {sign}", {"k": operand, "x": noun})
    if text.startswith(("what", "how")):
        return capital(text) + "?"
    return capital(intents.command(voice, text))


def heard(voice: Voice, text: str, careful: bool = False) -> tuple[Message, list[str]]:
    """The user's turn as typed, and its marked spans."""
    plain, marked = spans(noisy(voice, dressed(voice, text), careful))
    return {"role": "user", "content": plain}, marked


def lookup_then_compute(voice: Voice) -> list[Message]:
    """Search, calculate, answer with both."""
    fact = facts.draw(voice, numeric=True)
    sign, operand, question, order = follow_up(voice, fact.attribute.units)
    found = facts.search(voice, fact)
    if voice.chance(0.06):
        found = facts.Found("no results", "", "")
    elif voice.chance(0.05):
        found = facts.search(voice, fact, missing=True)
    noun = intents.embedded(voice, fact)
    if noun.startswith(("the ", "a ")) and sign + operand in question + order + sign + operand \
            and voice.chance(0.4):  # fmt: skip
        text = direct(voice, noun, sign, operand)
    else:
        q = voice.expand(voice.rng.choice(fact.attribute.questions), {"q": fact.topic})[:-1]
        text = joined(voice, {"q": q, "e": noun}, question, order)
    user, marked = heard(voice, text)
    looked = Outcome({"query": marked[0]}, found.text, "")
    turns = [user, *calls([("search_knowledge", looked)])]
    if not found.sentence:
        return [*turns, said(intents.quoted(marked[0], found))]
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
    picked: list[facts.Fact] = []
    while len(picked) < 2:
        fact = facts.draw(voice, numeric=True)
        if any(e.startswith("the ") for e in fact.attribute.embedded):
            picked.append(fact)
    nouns = []
    for fact in picked:
        options = [e for e in fact.attribute.embedded if e.startswith("the ")]
        nouns.append(voice.expand(voice.rng.choice(options), {"q": fact.topic}))
    sign = voice.rng.choice("+++-*")
    text = voice.worded(f"two {sign}", {"a": nouns[0], "b": nouns[1]})
    swapped = text.startswith("subtract")
    user, marked = heard(voice, capital(text))
    if swapped:
        picked.reverse()
    found = [facts.search(voice, fact) for fact in picked]
    pairs = [("search_knowledge", Outcome({"query": query}, item.text, intents.quoted(query, item)))
             for query, item in zip(marked, found, strict=True)]  # fmt: skip
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
    styles = [
        " and ".join(texts) + ends[-1][-1], " ".join(capital(end) for end in ends),
        ", and ".join(texts) + ends[-1][-1], " And ".join([capital(ends[0]), *ends[1:]]),
        " Also, ".join([capital(ends[0]), *ends[1:]]),
        "two things: " + " and ".join(texts) + ends[-1][-1],
        " Also ".join([capital(ends[0]), *ends[1:]]),
        " ".join(f"{n + 1}. {capital(end)}" for n, end in enumerate(ends)),
        "; ".join(texts) + ends[-1][-1], "first " + ", then ".join(texts) + ends[-1][-1],
        " and also ".join(texts) + ends[-1][-1], " Then ".join([capital(ends[0]), *ends[1:]]),
    ]  # fmt: skip
    if len(parts) > 2:
        styles = [s.replace("two things", "three things") for s in styles]
        styles.append(", ".join(texts[:-1]) + " and " + texts[-1] + ends[-1][-1])
    text = voice.rng.choice(styles)
    if all(form == "c" for form, _ in pieces) and voice.chance(0.4):
        text = voice.rng.choice(["please ", "can you ", "could you "]) + " and ".join(texts) + "."
    user, marked = heard(voice, capital(text), careful=any(p.careful for p in parts))
    pairs, answers = [], []
    for part, (_, own) in zip(parts, pieces, strict=True):
        count = own.count("[")
        outcome = part.settle(marked[:count])
        marked = marked[count:]
        if part.tool in absent:
            answers.append(intents.MISSING[part.tool])
            continue
        pairs.append((part.tool, outcome))
        answers.append(outcome.answer)
    turns = calls(pairs) if pairs else []
    return [user, *turns, said(" ".join(answers))]


def single(voice: Voice, part: Part, absent: set[str]) -> list[Message]:
    """One request, one call; or why it cannot be done."""
    user, marked = heard(voice, intents.sentence(voice, part), part.careful)
    if part.tool in absent:
        return [user, said(intents.MISSING[part.tool])]
    outcome = part.settle(marked)
    return [user, *calls([(part.tool, outcome)]), said(outcome.answer)]
