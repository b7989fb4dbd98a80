"""The table of all metrics, made from the catalogue."""

from __future__ import annotations

from pathlib import Path

from shared.metrics.catalogue import ALL
from shared.metrics.kinds import EVERYBODY

README = Path(__file__).resolve().parent / "README.md"
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"


def table() -> str:
    """Markdown."""
    lines = ["| metric | kind | labels | of | meaning |", "|---|---|---|---|---|"]
    for one in ALL:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        of = "every process" if one.of == EVERYBODY else ", ".join(one.of)
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {of} | {one.help} |")
    return "\n".join(lines) + "\n"


def current(text: str) -> str:
    """The text with the table as it is now in its place."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{table()}{END}{tail}"
