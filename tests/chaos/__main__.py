"""`make chaos`: many tasks, many faults, every invariant, one table; exit code 0 only if all hold.

python -m tests.chaos [--seed N] [--scenario NAME ...] [--tasks N] [--short] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import httpx
from rich.console import Console

from shared.bus.connect import open_bus
from shared.clock import monotonic
from shared.telemetry import configure
from tests.chaos.brokers import Broker, NoSmallDisk, SmallDiskBroker
from tests.chaos.evidence import write_down
from tests.chaos.report import Verdict, judge, show
from tests.chaos.run import Driver
from tests.chaos.scenarios import SCENARIOS, SHORT, BrokerKind, Scenario
from tests.chaos.system import Layout, running_system

_LONGEST = 900.0
_SHORT_TASKS = 18


def broker_of(kind: BrokerKind, data: Path) -> Broker:
    """The broker of some scenarios.

    Raises:
        NoSmallDisk: not possible on this machine.
    """
    if kind == "small-disk":
        disk = SmallDiskBroker(data)
        disk.hold()
        return disk
    return Broker(data, size=3, sync="1s") if kind == "cluster" else Broker(data)


async def together(
    scenarios: Sequence[Scenario], data: Path, options: argparse.Namespace, console: Console
) -> list[Verdict]:
    """The scenarios of one broker, one after the other on one system."""
    try:
        broker = broker_of(scenarios[0].broker, data)
    except NoSmallDisk as error:
        return [Verdict(one.name, not_run=str(error)) for one in scenarios]
    layout = Layout(ingresses=1) if options.short or broker.size > 1 else Layout()
    verdicts: list[Verdict] = []
    async with (
        running_system(data, broker, options.seed, layout) as system,
        open_bus(system.address, "chaos", configure("chaos", "critical")) as bus,
        httpx.AsyncClient(trust_env=False, timeout=10) as http,
    ):
        driver = Driver(system, bus, http)
        for scenario in scenarios:
            began = monotonic()
            tasks = options.tasks or (_SHORT_TASKS if options.short else scenario.tasks)
            evidence = await driver.run(scenario, tasks, options.seed)
            verdicts.append(judge(scenario.name, evidence, monotonic() - began))
            write_down(evidence, data / f"{scenario.name}.jsonl")
            _tell(verdicts[-1], console)
    return verdicts


def _tell(verdict: Verdict, console: Console) -> None:
    mark = "ok" if verdict.good else f"{len(verdict.findings)} findings"
    console.print(f"{verdict.scenario}: {mark} ({verdict.seconds:.0f} s)", markup=False)


async def run(options: argparse.Namespace, data: Path, console: Console) -> list[Verdict]:
    """All chosen scenarios."""
    names = options.scenario or (SHORT if options.short else [one.name for one in SCENARIOS])
    chosen = [one for one in SCENARIOS if one.name in names]
    verdicts: list[Verdict] = []
    ours = asyncio.current_task()
    if ours is not None:  # nothing that was started may outlive us
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ours.cancel)
    async with asyncio.timeout(_LONGEST):
        for kind, scenarios in groupby(chosen, key=lambda one: one.broker):
            (data / kind).mkdir()
            verdicts += await together(list(scenarios), data / kind, options, console)
    return verdicts


def read_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all that is random")
    names = [one.name for one in SCENARIOS]
    parser.add_argument("--scenario", action="append", choices=names, help="this one only")
    parser.add_argument("--tasks", type=int, help="tasks of each scenario")
    parser.add_argument("--short", action="store_true", help="what `make test` runs")
    parser.add_argument("--keep", type=Path, help="a new folder for logs, facts and records")
    return parser.parse_args(arguments)


def main() -> int:
    """The exit code."""
    options, console = read_options(sys.argv[1:]), Console(width=150, highlight=False)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        data = options.keep or Path(name) / "data"
        data.mkdir(parents=True)
        verdicts = asyncio.run(run(options, data.absolute(), console))
    show(verdicts, console)
    return 0 if all(one.good for one in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
