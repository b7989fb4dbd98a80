"""A service whose counting can be switched off and on: `python -m tests.bench.counting MODULE`.

SIGUSR1 switches it off, SIGUSR2 on again. What is left while it is off is what stands around the
counting: a clock that is read, a call that does nothing.
"""

from __future__ import annotations

import runpy
import signal
import sys

from shared.metrics.kinds import Counter, Gauge, Histogram

OFF, ON = signal.SIGUSR1, signal.SIGUSR2
_COUNTED = {(Counter, "add"), (Gauge, "set"), (Gauge, "move"), (Histogram, "observe")}
_REAL = {(kind, name): getattr(kind, name) for kind, name in _COUNTED}


def _nothing(*_values: object, **_more: object) -> None:
    """In the place of counting."""


def _switch(number: int, _frame: object) -> None:
    for (kind, name), real in _REAL.items():
        setattr(kind, name, real if number == ON else _nothing)


def main() -> None:
    for number in (OFF, ON):
        signal.signal(number, _switch)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
