"""How one request is worded as a whole: question, command, embedded clause, with context.

Owns the choice among the forms of a part. Knows nothing of calls and answers.
"""

from __future__ import annotations

from .intents import Part
from .vocabulary import Voice, capital, gerund, query, uncapital

WHERE = "(according to|in) (the|our) (handbook|documents|docs|policy|files), "


def sentence(voice: Voice, part: Part) -> str:
    """One way to word a single request."""
    form = voice.rng.choice(list(part.forms))
    text = part.forms[form]
    if form == "s":
        return capital(text)
    if form == "q" and part.tool == "search_knowledge":
        return searching(voice, text[1:-1])
    if form == "q":
        return capital(text) + "?"
    if form == "e":
        return voice.worded("embedded", {"e": text})
    return capital(command(voice, text))


def searching(voice: Voice, question: str) -> str:
    """A question to the documents with what stands around it: all of it is the query."""
    roll = voice.rng.random()
    if roll < 0.1:
        question = voice.expand(WHERE) + question
    elif roll < 0.25:
        question = in_context(voice, question)
    elif roll < 0.32:
        question = f"{question} {voice.worded('where aside')}"
    return capital(query(question)) + "?"


def in_context(voice: Voice, question: str) -> str:
    """Something about the user first, then the question."""
    context = voice.worded("context")
    if voice.chance(0.5):
        return f"{context}. {capital(question)}"
    return f"{context}{voice.expand('(,|, so| and| -|:)')} {uncapital(question)}"


def command(voice: Voice, text: str) -> str:
    """A command, plain or polite."""
    acting = gerund(text) if voice.chance(0.2) else ""
    if acting:
        return voice.worded("gerund", {"g": acting})
    if voice.chance(0.45):
        return text + "."
    return voice.worded("polite", {"c": text})
