"""A timeline as bars of characters (pure): one row per step over the time of its task."""

from __future__ import annotations

from dataclasses import dataclass

from shared.timeline import Row, Timeline


@dataclass(frozen=True, slots=True)
class Bar:
    """Widths in characters, left to right: blank, Millrace's own part, waiting, busy."""

    row: Row
    offset: int
    own: int
    queued: int
    busy: int

    @property
    def end(self) -> int:
        """The first column after the bar."""
        return self.offset + self.own + self.queued + self.busy


def span_s(line: Timeline, now: float) -> float:
    """Seconds from the submission to the end; to `now` while the task runs."""
    last = max((row.end or 0.0 for row in line.rows), default=0.0)
    end = line.done - line.submitted if line.done else max(last, now - line.submitted)
    return max(end, last, 0.001)


def bars(line: Timeline, width: int, now: float) -> list[Bar]:
    """The rows of a timeline, scaled to `width` columns. Every row is at least one column."""
    whole = span_s(line, now)
    return [_bar(row, whole, width) for row in line.rows]


def _bar(row: Row, whole: float, width: int) -> Bar:
    end_s = whole if row.end is None else min(row.end, whole)
    begin = min(width - 1, round(row.start / whole * width))
    end = min(width, max(begin + 1, round(end_s / whole * width)))
    columns = end - begin
    if row.end is None:
        return Bar(row, begin, 0, 0, columns)
    total_ms = max((end_s - row.start) * 1000, row.queued_ms + row.busy_ms, 0.001)
    busy = min(columns, max(1, round(row.busy_ms / total_ms * columns)))
    queued = min(columns - busy, round(row.queued_ms / total_ms * columns))
    return Bar(row, begin, columns - busy - queued, queued, busy)
