"""A program for the supervisor's tests: supervises two trivial children until it is signalled.

Arguments: the data folder, and the seconds a child has to stop. One child is stubborn: it ignores
the polite signal.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from infra.local.plan import Program
from infra.local.supervisor import Supervisor

SLEEP = "import time\nwhile True: time.sleep(60)"
STUBBORN = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEP}"


async def main() -> None:
    data, grace = Path(sys.argv[1]), float(sys.argv[2])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor(data, lambda change: print(change, flush=True), grace)  # noqa: T201
    supervisor.start(Program("sleeper", (sys.executable, "-c", SLEEP), stage=0))
    supervisor.start(Program("stubborn", (sys.executable, "-c", STUBBORN), stage=1))
    await stop.wait()
    await supervisor.stop()


if __name__ == "__main__":
    asyncio.run(main())
