"""Owns where a passage is cut into sentences. Must not know vectors, storage or messages.

A sentence ends at its mark, at an empty line, and before a list item, a table row or a heading;
a line break inside a paragraph is white space. Headings are no sentences: they say what the
sentences below them are about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(?P<title>.+?)[ \t]*#*[ \t]*")
_ITEM = re.compile(r"^[ \t]*(?:[-*+\u2022]|\d{1,3}[.)])[ \t]+")
_CLOSING = r"[\"'\u201d\u2019)\]*_]*"
_OPENING = r"[\"'\u201c\u2018(\[*_]*"
# A mark and then white space and a capital, a digit or a letter of another script; or a CJK mark.
_END = re.compile(
    rf"[.!?\u2026]+{_CLOSING}\s+(?={_OPENING}[^\W_a-z])|[\u3002\uff01\uff1f]{_CLOSING}\s*"
)
_ABBREVIATION = re.compile(
    r"^[a-z]\.$|(?:^|[\s(])(?:e\.g|i\.e|cf|vs|approx|no|nos|fig|art|sec|dr|mr|mrs|ms|prof|st|jr|sr)\.$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence on one line; `heading` is the last one above it in the passage."""

    text: str
    heading: str = ""


def sentences(passage: str) -> list[Sentence]:
    """The sentences of a passage, in order; a passage of headings alone is one sentence."""
    found: list[Sentence] = []
    heading = ""
    for block in _blocks(passage):
        block = _ITEM.sub("", block, count=1)
        title = _HEADING.fullmatch(block)
        if title:
            heading = one_line(title.group("title"))
        else:
            found += [Sentence(text, heading) for text in _split(one_line(block))]
    return found or ([Sentence(heading)] if heading else [])


def one_line(text: str) -> str:
    """The text with single spaces."""
    return " ".join(text.split())


def _blocks(passage: str) -> list[str]:
    """Paragraphs, list items, table rows and headings."""
    blocks: list[str] = []
    open_block = False
    for line in passage.splitlines():
        heading = _HEADING.fullmatch(line) is not None
        if not line.strip():
            open_block = False
        elif open_block and not heading and not _begins(line):
            blocks[-1] += "\n" + line
        else:
            blocks.append(line)
            open_block = not heading
    return blocks


def _begins(line: str) -> bool:
    """Whether a line stands for itself: a list item or a row of a table."""
    return _ITEM.match(line) is not None or line.lstrip().startswith("|")


def _split(text: str) -> list[str]:
    """The sentences of a paragraph."""
    parts: list[str] = []
    start = 0
    for end in _END.finditer(text):
        piece = text[start : end.end()].strip()
        if not _ABBREVIATION.search(piece):
            parts.append(piece)
            start = end.end()
    rest = text[start:].strip()
    return [*parts, rest] if rest else parts
