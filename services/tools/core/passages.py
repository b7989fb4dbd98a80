"""Owns how found passages read in a tool's result: one line each, with its source. Pure.

The sentence that answers best is set in bold, which every model knows, and one that is about as
good as well; so that this is all that bold says, a document's own is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared.contracts.retrieval import Passage

NOTHING = "no results"
MARK = "**"
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$")
_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")


def render(passages: Sequence[Passage]) -> str:
    """`[1] travel.md: A sentence. **The best sentence.**`, best first, or `no results`."""
    if not passages:
        return NOTHING
    return "\n".join(
        f"[{number}] {_line(passage.document)}: {marked(passage)}"
        for number, passage in enumerate(passages, start=1)
    )


def marked(passage: Passage) -> str:
    """A passage on one line, with its best sentences in bold."""
    line = _BOLD.sub(r"\1", one_line(passage.text))
    spans: list[tuple[int, int]] = []
    for sentence in (passage.highlight, passage.runner_up):
        best = _BOLD.sub(r"\1", _line(sentence))
        spans += _place(line, best, spans) if best else []
    for start, end in sorted(spans, reverse=True):
        line = f"{line[:start]}{MARK}{line[start:end]}{MARK}{line[end:]}"
    return line


def _place(line: str, text: str, taken: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where the text stands first, outside of what is taken; nothing where it does not."""
    start = line.find(text)
    while start >= 0 and any(start < to and begin < start + len(text) for begin, to in taken):
        start = line.find(text, start + 1)
    return [(start, start + len(text))] if start >= 0 else []


def one_line(text: str) -> str:
    """A passage without line breaks and heading marks.

    A heading leads the line only where its words are not in the text anyway: a small model
    quotes what it reads, and a heading in the middle of its sentence would be quoted too.
    """
    title, body = _parted(text)
    if not body or not title:
        return body or title
    return body if title.casefold() in body.casefold() else f"{title}: {body}"


def _parted(text: str) -> tuple[str, str]:
    """The last heading before the body, and the body."""
    title = ""
    body: list[str] = []
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading and not any(body):
            title = heading.group(1)
        else:
            body.append(_line(heading.group(1) if heading else line))
    return _line(title), " ".join(line for line in body if line)


def _line(text: str) -> str:
    return " ".join(text.split())
