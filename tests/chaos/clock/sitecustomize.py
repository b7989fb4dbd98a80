"""Shifts the wall clock of a process of the chaos suite, and steps it while the process runs.

Python imports this by its name, because the folder is on the suite's PYTHONPATH. The file named
by CHAOS_CLOCK says by how many seconds each program is off; it is looked at again twice a second.
The product reads time through `shared.clock`, which reads `time.time`. Nothing else is touched:
not the monotonic clock, not `clock_gettime`, by which the suite itself tells the time.
"""

from __future__ import annotations

import json
import os
import time

_FILE, _NAME = os.environ.get("CHAOS_CLOCK", ""), os.environ.get("CHAOS_NAME", "")
_EVERY = 0.5


class _Skewed:
    """The wall clock and how far it is off at the moment."""

    def __init__(self) -> None:
        self._next, self._off = 0.0, 0.0

    def offset(self) -> float:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            try:
                with open(_FILE) as file:
                    self._off = float(json.load(file).get(_NAME, 0.0))
            except (OSError, ValueError):
                pass  # being written at this moment: the old one will do
        return self._off

    def time(self) -> float:
        return time.clock_gettime(time.CLOCK_REALTIME) + self.offset()

    def time_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_REALTIME) + int(self.offset() * 1e9)


if _FILE:
    _skewed = _Skewed()
    time.time, time.time_ns = _skewed.time, _skewed.time_ns
