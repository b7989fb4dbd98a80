"""Owns where a document is cut into passages. Must not know vectors, storage or messages.

A section starts at a markdown heading. Inside a section semchunk cuts at paragraphs, then at
sentence ends, then at clauses. Every passage is the document's own text, verbatim: the offsets
are exact, and all text that is not white space is in exactly one passage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from semchunk.semchunk import chunk as semantic_chunks

CHUNKER_VERSION = "1"
"""Part of every chunk id and of the index tag: change it when the cuts change."""
CHARS_PER_TOKEN = 8
"""A word piece model counts a word of any length as one token; this bounds its characters."""
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(?P<title>[^\n]{1,120}?)[ \t]*#*[ \t\r]*")
_FENCE = re.compile(r" {0,3}(```|~~~)")
# A line break inside a paragraph: not next to an empty line, not before a list item or a table.
_SOFT_BREAK = re.compile(r"(?<=[^\s])[ \t\r]?\n(?![ \t\r]*(?:\n|$|[-*+|>#`~]|\d+[.)][ \t]))")

CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: `text` is `document[start:end]`; `heading` is the nearest one above its body."""

    ordinal: int
    start: int
    end: int
    text: str
    heading: str = ""

    def embedding_text(self) -> str:
        """What is embedded: the text, led by its heading so that a short passage has a topic."""
        if not self.heading or self.text.lstrip().startswith("#"):
            return self.text
        return f"{self.heading}\n{self.text}"


@dataclass(frozen=True, slots=True)
class _Section:
    """Headings from `start` to `body`, their text from `body` to `end`."""

    start: int
    body: int
    end: int
    heading: str


def chunk_document(text: str, count_tokens: CountTokens, max_tokens: int) -> list[Chunk]:
    """The passages of a document, in order, of about `max_tokens` tokens at the most."""

    def size(piece: str) -> int:
        return max(count_tokens(piece), -(-len(piece) // CHARS_PER_TOKEN))

    chunks: list[Chunk] = []
    for section in _sections(text):
        for start, end in _cuts(text, section, size, max_tokens):
            chunks.append(Chunk(len(chunks), start, end, text[start:end], section.heading))
    return chunks


def _sections(text: str) -> Iterator[_Section]:
    """Headings without text of their own belong to the section that follows."""
    start = body = 0
    heading = ""
    for at, end, title in _headings(text):
        if text[body:at].strip():
            yield _Section(start, body, at, heading)
            start = at
        body, heading = end, title
    yield _Section(start, body, len(text), heading)


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and title of each heading line outside of fenced code."""
    at, fence = 0, ""
    for line in text.splitlines(keepends=True):
        if found := _FENCE.match(line):
            fence = "" if fence == found.group(1) else fence or found.group(1)
        elif not fence and (heading := _HEADING.fullmatch(line.rstrip("\n"))):
            yield at, at + len(line), heading.group("title")
        at += len(line)


def _cuts(
    text: str, section: _Section, size: CountTokens, max_tokens: int
) -> list[tuple[int, int]]:
    """Offsets of the passages of one section; the first one takes the headings along."""
    head = text[section.start : section.body]
    if size(head) > max_tokens:
        return _split(text, section.start, section.end, (size, max_tokens))
    cuts = _split(text, section.body, section.end, (size, max_tokens))
    lead = _trimmed(text, section.start, section.body)
    if lead is None:
        return cuts
    return [(lead[0], cuts[0][1]), *cuts[1:]] if cuts else [lead]


def _split(
    text: str, start: int, end: int, limit: tuple[CountTokens, int]
) -> list[tuple[int, int]]:
    size, max_tokens = limit
    flat = _SOFT_BREAK.sub(lambda found: " " * len(found.group()), text[start:end])
    if not flat.strip():
        return []
    found: Any = semantic_chunks(flat, max_tokens, size, memoize=False, offsets=True)
    spans = (_trimmed(text, start + first, start + last) for first, last in found[1])
    return [span for span in spans if span is not None]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without white space at its ends, or None where nothing else is in it."""
    piece = text[start:end]
    if not piece.strip():
        return None
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
