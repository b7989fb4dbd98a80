"""What stands beside the bar of a step, and what people said to a task, as text."""

from __future__ import annotations

from rich.text import Text

from services.cli.core.describe import arguments_text
from services.cli.core.words import clip, tokens
from shared.timeline import Row
from shared.waiting import Note

_ICONS = {"parked": "⏸", "approved": "▶", "rejected": "⊘", "steered": "↪", "cancelled": "⊘"}
_STYLES = {"parked": "yellow", "approved": "green", "rejected": "yellow", "cancelled": "yellow"}


def row_text(row: Row) -> Text:
    """What came of a step, or what it waits for; failed attempts first."""
    text = Text()
    if row.tries:
        codes = ", ".join(one.code for one in row.tries)
        text.append(clip(f"attempt {row.tries[-1].attempt + 1} after {codes}  ", 60), "yellow")
    elif row.attempt > 1:
        text.append(f"attempt {row.attempt}  ", "dim")
    if row.waits:
        return text.append(f"waits: {row.waits.replace('_', ' ')}", "yellow")
    if row.error:
        return text.append(row.error, "red")
    return text.append(_outcome(row), "dim")


def _outcome(row: Row) -> str:
    if row.kind == "tool":
        return clip(arguments_text(row.arguments) + (f" = {row.result}" if row.result else ""), 60)
    usage = tokens(row.usage) if row.status == "ok" else ""
    return f"{usage}  {clip(row.result, 30) if row.result else ''}".strip()


def note_text(note: Note, after: str) -> Text:
    """`⏸ 1.2 s step 3 parked: approval`; `after` is the time since the submission."""
    step = "" if note.step is None else f"step {note.step} "
    by = f" by {note.by}" if note.by else ""
    said = f": {clip(note.text, 100)}" if note.text else ""
    text = Text.assemble((f"{_ICONS[note.kind]} {after}  ", "dim"))
    return text.append(f"{step}{note.kind}{by}{said}", _STYLES.get(note.kind, "bold"))
