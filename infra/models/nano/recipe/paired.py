"""Two requests of one kind that share their words: "the time in Rome and Oslo".

Owns the wording of such pairs. The turns that follow are put together in `chains`.
"""

from __future__ import annotations

from . import arithmetic, chains, facts, intents, notes
from .intents import Part
from .vocabulary import Voice, capital, query

Pair = tuple[str, list[tuple[Part, int]]]


def clocks(voice: Voice) -> Pair:
    """Two places, one question."""
    first = voice.rng.choice(notes.zones())
    second = first
    while second[1] == first[1]:
        second = voice.rng.choice(notes.zones())
    text = voice.worded("two clocks", {"a": first[0], "b": second[0]})
    return text, [(intents.clock_part(voice, "time", *place), 0) for place in (first, second)]


def lookups(voice: Voice) -> Pair:
    """Two noun phrases, one question."""
    first, second = facts.noun(voice), facts.noun(voice)
    bare = voice.chance(0.3)
    a, b = (phrase.removeprefix("the ") if bare else phrase for _, phrase in (first, second))
    slots = {"a": query(a), "b": query(b)}
    text = voice.worded("two nouns" if bare else "two look-ups", slots)
    parts = [
        intents.search_part(voice, {}, facts.search(voice, fact)) for fact, _ in (first, second)
    ]
    return text, [(part, 1) for part in parts]


def sums(voice: Voice) -> Pair:
    """Two sums, one question."""
    drawn = [arithmetic.plain(voice), arithmetic.plain(voice)]
    text = voice.worded("two sums", {"a": drawn[0].text, "b": drawn[1].text})
    return text, [(intents.sum_part(found), 0) for found in drawn]


def memories(voice: Voice, memory: dict[str, str]) -> Pair:
    """Two keys, one question."""
    parts = [intents.recalling(voice, memory)]
    while len(parts) < 2:
        other = intents.recalling(voice, memory)
        if other.extra["key"] != parts[0].extra["key"]:
            parts.append(other)
    keys = [f"[{part.extra['key']}]" for part in parts]
    text = voice.worded("two recalls", {"a": keys[0], "b": keys[1]})
    return text, [(part, 1) for part in parts]


def draw(voice: Voice, names: list[str], memory: dict[str, str]) -> list[chains.Message] | None:
    """The turns of a pair for one of the offered tools; none if there is no fitting tool."""
    makers = {
        "current_time": clocks, "search_knowledge": lookups, "calculator": sums,
        "recall": lambda v: memories(v, memory),
    }  # fmt: skip
    fits = [name for name in names if name in makers]
    if not fits:
        return None
    text, parts = makers[voice.rng.choice(fits)](voice)
    return chains.answered(voice, capital(text), parts, set())
