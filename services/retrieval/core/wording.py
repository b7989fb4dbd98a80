"""Owns which words of a text mean something, and a text without some of them. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_WORD = re.compile(r"\w+")
_ENDING = re.compile(r"(?:es|s|ed|ing|e|y|ies)$")
_SHORT = 4
_SMALL = frozenset(
    {"a", "about", "an", "and", "any", "are", "at", "be", "by", "can", "do", "does", "for", "from",
     "get", "has", "have", "how", "i", "in", "is", "it", "many", "me", "much", "my", "of", "on",
     "or", "our", "tell", "that", "the", "there", "this", "to", "was", "we", "what", "when",
     "where", "which", "who", "why", "with", "you", "your"}
)  # fmt: skip
_NAMED = re.compile(r"\w+(?:[ \t]+\w+)*")
_IT = "it"
_THE_IT = re.compile(r"\b(?i:an?|the|our|my|your|new) it\b")


def words(text: str) -> set[str]:
    """The stems of words that mean something: "limits" is "limit", "reached" is "reach"."""
    return {_stem(word) for word in _WORD.findall(text) if word.lower() not in _SMALL}


def topic(question: str, texts: Iterable[str]) -> set[str]:
    """The words of a question that more than one of the texts has: what all of them are about."""
    asked = words(question)
    found = Counter(word for text in texts for word in words(text) & asked)
    return {word for word, times in found.items() if times > 1}


def without(text: str, named: set[str]) -> str:
    """The text with "it" for these stems: "When is it paid" of "When is sick leave paid"."""
    bare = _NAMED.sub(lambda run: _replaced(run[0].split(), named), text)
    return _THE_IT.sub(_IT, bare)


def _replaced(run: list[str], named: set[str]) -> str:
    kept: list[str] = []
    inside = False
    for word in run:
        if _stem(word) not in named:
            kept.append(word)
        elif not inside:
            kept.append(_IT)
        inside = _stem(word) in named
    return " ".join(kept)


def _stem(word: str) -> str:
    word = word.lower()
    return _ENDING.sub("", word) if len(word) > _SHORT else word.removesuffix("s")
