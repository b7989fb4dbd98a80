"""What the terminal shows: the start-up list, what to try first, and later only what goes wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from infra.local.child import Change
from infra.local.folder import last_lines

_EXPLAIN_AT = 3
"""Failures in a row after which the end of the log is shown, once."""
_MARKS = {
    "waiting": "[dim]·[/]",
    "starting": "[yellow]…[/]",
    "running": "[yellow]…[/]",
    "ready": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "stopped": "[dim]■[/]",
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the system can be reached."""

    http: str
    nats: str
    data: Path
    embedded: bool = True
    """Whether the broker is ours, so that its token lies in the data folder."""


class View:
    """Follows the programs on a terminal, or as plain lines where there is none."""

    def __init__(self, names: Sequence[str], data: Path, quiet: bool = False) -> None:
        self._console = Console(quiet=quiet, highlight=False)
        self._states = dict.fromkeys(names, "waiting")
        self._details = dict.fromkeys(names, "")
        self._data = data
        self._live: Live | None = None
        self._up = False

    def begin(self) -> None:
        """Show the list; on a terminal it is redrawn in place."""
        if self._console.is_terminal and not self._console.quiet:
            self._live = Live(self._table(), console=self._console, refresh_per_second=8)
            self._live.start()

    def changed(self, change: Change) -> None:
        """A program started, failed or stopped."""
        self._set(change.name, change.state, change.detail)
        if change.state == "failed":
            self._line(f"[red]{change.name}[/] {escape(change.detail)}")
            if change.failures == _EXPLAIN_AT:
                self._explain(change.name)
        elif self._up and change.state == "running":
            self._line(f"[green]{change.name}[/] runs again (process {change.pid})")

    def ready(self, missing: Iterable[str]) -> None:
        """Everything that runs and is not `missing` is ready."""
        waiting = set(missing)
        for name, state in self._states.items():
            if name in waiting and state == "ready":
                self._set(name, "running", "not ready")
            elif name not in waiting and state == "running":
                self._set(name, "ready", "")

    def up(self, addresses: Addresses, seconds: float) -> None:
        """The whole system is ready."""
        self.end()
        self._up = True
        self._console.print(f"\n[bold green]Millrace is ready[/] after {seconds:.1f} s.\n")
        self._console.print(examples(addresses), markup=False, soft_wrap=True)
        self._console.print("\nCtrl-C stops everything.\n")

    def say(self, text: str) -> None:
        """One line of plain text."""
        self._line(escape(text))

    def end(self) -> None:
        """Leave the list as it is."""
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()
            self._live = None

    def _set(self, name: str, state: str, detail: str) -> None:
        if self._states.get(name) == state and self._details.get(name) == detail:
            return
        self._states[name], self._details[name] = state, detail
        if self._live is not None:
            self._live.update(self._table())
        elif not self._up and state in {"starting", "ready"}:
            self._console.print(f"{_MARKS[state]} {name} {escape(detail)}".rstrip())

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _explain(self, name: str) -> None:
        path = self._data / "logs" / f"{name}.log"
        self._line(f"[dim]the end of {path}:[/]")
        for line in last_lines(path, 6):
            self._console.print(f"  {line}", markup=False, style="dim", soft_wrap=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for name, state in self._states.items():
            shown = self._details[name] or ("" if state == "ready" else state)
            table.add_row(_MARKS[state], name, f"[dim]{escape(shown)}[/]")
        return table


def examples(at: Addresses) -> str:
    """Where everything is, and one thing to paste per way in."""
    token = f"  (token: {at.data}/nats.json)" if at.embedded else ""
    plain_nats = f"\n\n{_NATS_EXAMPLE.replace('FILE', f'{at.data}/nats.json')}"
    return f"""  HTTP   {at.http}  (documentation: {at.http}/docs)
  NATS   {at.nats}{token}
  logs   {at.data}/logs

Try one of these in another terminal:

.venv/bin/millrace run "What is 17 * 23?"

curl -s {at.http}/v1/tasks -H 'Prefer: wait=30' -H 'Content-Type: application/json' \\
  -d '{{"agent": "assistant", "input": "What is 17 * 23?"}}'{plain_nats if at.embedded else ""}"""


_NATS_EXAMPLE = """.venv/bin/python - <<'END'
import asyncio, json, nats
async def main(at=json.load(open("FILE"))):
    nc = await nats.connect(at["url"], token=at["token"])
    done = await nc.subscribe("run.*.default.s1.done.*")
    await nc.publish("tasks.default.assistant.s1", b'{"input": "What is 17 * 23?"}')
    print((await done.next_msg(30)).data.decode())
asyncio.run(main())
END"""
