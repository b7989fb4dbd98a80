"""How one request is worded as a whole: question, command, embedded clause, with context.

Owns the choice among the forms of a part. Knows nothing of calls and answers.
"""

from __future__ import annotations

from .intents import Part
from .vocabulary import Voice, capital, gerund

WHERE = "(according to|in) (the|our) (handbook|documents|docs|policy|files), "


def sentence(voice: Voice, part: Part) -> str:
    """One way to word a single request."""
    form = voice.rng.choice(list(part.forms))
    text = part.forms[form]
    if form == "s":
        return capital(text)
    if form == "q":
        lead = ""
        if part.tool == "search_knowledge" and voice.chance(0.1):
            lead = voice.expand(WHERE)
        elif part.tool == "search_knowledge" and voice.chance(0.14):
            return in_context(voice, text)
        elif part.tool == "search_knowledge" and voice.chance(0.08):
            text = f"{text} {voice.worded('where aside')}"
        return capital(lead + text) + "?"
    if form == "e":
        return voice.worded("embedded", {"e": text})
    return capital(command(voice, text))


def in_context(voice: Voice, question: str) -> str:
    """Something about the user first, then the question."""
    context = voice.worded("context")
    if voice.chance(0.5):
        return f"{context}. {capital(question)}?"
    low = question if question.startswith("I ") else question[:1].lower() + question[1:]
    return f"{context}{voice.expand('(,|, so| and| -|:)')} {low}?"


def command(voice: Voice, text: str) -> str:
    """A command, plain or polite."""
    acting = gerund(text) if voice.chance(0.2) else ""
    if acting:
        return voice.worded("gerund", {"g": acting})
    if voice.chance(0.45):
        return text + "."
    return voice.worded("polite", {"c": text})
