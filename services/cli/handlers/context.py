"""What every command has at hand: the system it talks to, where it prints, how it ends.

Exit codes: 0 done, 1 a failed task or check or a system that is away, 2 wrong usage. Results go
to standard output, everything said about them to standard error, so that `--json` can be piped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import orjson
import typer
from rich.console import Console

from services.cli.core.place import Place
from services.cli.ports import Client, Launcher, Probes, Terminal, Way
from shared.errors import MillraceError

FAILED, USAGE = 1, 2
_AWAY = frozenset({"no_broker", "bus_unavailable"})

_WRONG_USAGE = frozenset(
    {
        "invalid_name",
        "invalid_limit",
        "invalid_grouping",
        "invalid_key_file",
        "invalid_schedule",
        "invalid_step",
        "folder_needed",
        "step_needed",
    }
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Connect = Callable[[Place, str | None], AbstractAsyncContextManager[Client]]
OverHttp = Callable[[Place, str, str], AbstractAsyncContextManager[Way]]
"""The HTTP side of a system, in a tenant's name or with an API key."""
MakeProbes = Callable[[Place, str | None], Probes]


@dataclass(frozen=True, slots=True)
class App:
    """The composition that `__main__` hands to the commands; tests hand in another one."""

    place: Place
    connect: Connect
    http: OverHttp
    terminal: Terminal
    probes: MakeProbes
    launch: Launcher
    now: Callable[[], float]
    out: Console
    err: Console
    tenant: str | None = None
    """Without a name it is the one whose key the bus is shown, else `default`."""

    def chosen(self, data: Path | None, tenant: str | None) -> App:
        """This application for another system or tenant."""
        return replace(self, place=self.place.on(data), tenant=tenant)


def app_of(context: typer.Context) -> App:
    """The application of a command."""
    found: App = context.obj
    return found


def execute(app: App, work: Callable[[Client], Awaitable[int]]) -> None:
    """Connect, work, and end with the exit code; errors become one line on standard error."""

    async def connected() -> int:
        async with app.connect(app.place, app.tenant) as client:
            return await work(client)

    raise typer.Exit(run(app, connected))


def run(app: App, work: Callable[[], Awaitable[int]]) -> int:
    """The exit code of some work."""

    async def awaited() -> int:
        return await work()

    try:
        return asyncio.run(awaited())
    except MillraceError as error:
        app.err.print(explain(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return USAGE if error.code in _WRONG_USAGE else FAILED
    except KeyboardInterrupt:
        return 130


def explain(error: MillraceError) -> str:
    """One line: what went wrong and, where it is known, what to do."""
    if error.code in _AWAY:
        hint = "" if "make run" in error.detail else " (is the system running? `make run`)"
        return f"millrace: {error.detail or error.code}{hint}"
    if error.code == "no_responders":
        return f"millrace: {error.detail}; `millrace doctor` says what is not running"
    return f"millrace: {error}"


def print_json(app: App, value: object) -> None:
    """A value as one line of JSON on standard output."""
    text = orjson.dumps(value, default=msgspec.to_builtins).decode()
    app.out.print(text, markup=False, highlight=False, soft_wrap=True)
