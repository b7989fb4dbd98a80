"""`python -m infra.grafana write | check`: the files for Grafana, and whether they show something.

`write` makes the dashboards and the table of metrics anew. `check` lets a Prometheus of its own
scrape the running system for a few seconds and asks it every question of every dashboard; run
`make demo` before, so that there is something to be seen. It exits with 1 where one has no answer.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from infra.grafana.boards import BOARDS
from infra.grafana.build import built
from infra.grafana.checking import Finding, failing_rules, findings, firing_alerts
from infra.local.settings import LocalSettings
from infra.prometheus import reference
from infra.prometheus.server import binary, prometheus
from shared.errors import MillraceError, Permanent
from shared.metrics.exporter import TARGETS_FILE

FOLDER = Path(__file__).resolve().parent / "dashboards"
_MARKS = {"data": "[green]✓[/]", "quiet": "[dim]·[/]", "nothing": "[red]✗[/]", "error": "[red]✗[/]"}


@dataclass(frozen=True, slots=True)
class Options:
    """How long to scrape, and how to tell what was found."""

    seconds: float
    json: bool


def files() -> dict[Path, bytes]:
    """Everything that is made, as it should be now."""
    others = {board.uid: board.title for board in BOARDS}
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    found = {
        FOLDER / f"{board.uid}.json": orjson.dumps(built(board, others), option=option)
        for board in BOARDS
    }
    found[reference.README] = reference.current(reference.README.read_text()).encode()
    return found


def write() -> int:
    """Write them."""
    for path, body in files().items():
        path.write_bytes(body)
    return 0


async def check(console: Console, targets: Path, program: str, options: Options) -> int:
    """Look at the running system."""
    async with prometheus(program, targets) as server:
        await server.settled(options.seconds)
        found = await findings(server)
        broken = await failing_rules(server)
        alerts = await firing_alerts(server)
    good = sum(one.good for one in found)
    if options.json:
        told = {"queries": found, "failing_rules": broken, "alerts": alerts}
        console.print_json(orjson.dumps(told).decode())
    else:
        _show(console, found, broken, alerts)
        console.print(f"{good} of {len(found)} queries have an answer; {len(broken)} rules fail")
    return int(good < len(found) or bool(broken))


def targets_of(data: Path) -> Path:
    """The file with the processes of the system there.

    Raises:
        Permanent: `no_targets`.
    """
    path = data / TARGETS_FILE
    if not path.is_file():
        raise Permanent(
            "no_targets",
            f"{path} names no process: no system runs there (`make run` starts one), or it runs "
            "with MILLRACE_METRICS_PORT=off",
        )
    return path


def _show(console: Console, found: list[Finding], broken: list[str], alerts: list[str]) -> None:
    table = Table()
    for title in ("", "dashboard", "panel", "found"):
        table.add_column(title)
    for one in found:
        told = one.found if one.good else f"{one.found} {one.expr}".strip()
        table.add_row(_MARKS[one.outcome], one.board, one.panel, told)
    console.print(table)
    for text in broken:
        console.print(f"[red]rule[/] {text}")
    for text in alerts:
        console.print(f"[yellow]alert[/] {text}")


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="infra.grafana", description=__doc__)
    parser.add_argument("what", choices=("write", "check"))
    parser.add_argument("--data", type=Path, help="data folder of the system (MILLRACE_DATA)")
    parser.add_argument("--prometheus", help="the program, where it is not on the path")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to scrape")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    chosen = parser.parse_args()
    if chosen.what == "write":
        return write()
    data = chosen.data or LocalSettings().data
    try:
        program = binary(chosen.prometheus)
        options = Options(chosen.seconds, chosen.json)
        work = check(Console(highlight=False), targets_of(data), program, options)
        return asyncio.run(work)
    except MillraceError as error:
        sys.stderr.write(f"infra.grafana: {error.detail or error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
