"""`millrace replay`: the log decided once more by the present code, and compared with itself."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from services.cli.core.words import clock, plural, printable
from services.cli.handlers.context import FAILED, USAGE, App, Json, app_of, execute, print_json
from services.cli.ports import Client
from shared.contracts.replay import Check, ReplayRow

_MARKS = {"explained": ("✔", "green"), "outside": ("→", "dim"), "unexplained": ("✗", "red")}


def replay_command(  # options of a command line are its parameters (Typer)
    context: typer.Context,
    session: Annotated[str | None, typer.Argument(help="The session.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare only; exit 1 at the first difference.")
    ] = False,
    at: Annotated[int | None, typer.Option(min=1, help="Only the state at this sequence.")] = None,
    whole: Annotated[bool, typer.Option("--all", help="Check every session.")] = False,
    json: Json = False,
) -> None:
    """Show each fact of a session beside what the present code decides from there on.

    ✔ it follows from the log before it, → it came from outside, ✗ the present code would not
    have done it.
    """
    app = app_of(context)
    if (session is None) != whole or (whole and at is not None):
        app.err.print("name a session, or give --all (which goes without --at)", style="red")
        raise typer.Exit(USAGE)

    async def work(client: Client) -> int:
        if session is None:
            return await _check_all(app, client, as_json=json)
        if at is not None:
            return await _place(app, client, session, at, as_json=json)
        if check:
            return await _check(app, client, session, as_json=json)
        return await _show(app, client, session, as_json=json)

    execute(app, work)


async def _show(app: App, client: Client, session: str, *, as_json: bool) -> int:
    code = 0
    async with contextlib.aclosing(client.session(session).replay()) as rows:
        async for row in rows:
            code = FAILED if row.verdict == "unexplained" else code
            if as_json:
                print_json(app, row)
            else:
                app.out.print(_line(row), soft_wrap=True)
    return code


def _line(row: ReplayRow) -> Text:
    """Place, fact, whether it follows, and what is new to do."""
    mark, style = _MARKS[row.verdict]
    name = row.task if row.step is None else f"{row.task}.{row.step}"
    text = Text.assemble((f"{row.seq:>8}  {clock(row.time)}  ", "dim"), (f"{mark} ", style))
    text.append(f"{row.kind:<12} ", "bold").append(printable(name))
    if row.verdict == "explained":
        text.append(f"  since {row.by}", "dim")
    if row.verdict == "unexplained":
        text.append(f"  instead: {printable(', '.join(row.due)) or 'nothing'}", "red")
    if row.decided:
        text.append(f"  ⇒ {printable(', '.join(row.decided))}", "cyan")
    return text


async def _place(app: App, client: Client, session: str, at: int, *, as_json: bool) -> int:
    page = await client.session(session).replay_at(at)
    if as_json:
        print_json(app, {"fact": page.rows[0], "state": page.state})
        return 0
    row = page.rows[0]
    app.out.print(_line(row), soft_wrap=True)
    app.out.print(f"due: {printable(', '.join(row.due)) or 'nothing'}", soft_wrap=True)
    print_json(app, page.state)
    return 0


async def _check(app: App, client: Client, session: str, *, as_json: bool) -> int:
    found = await client.session(session).check()
    if as_json:
        print_json(app, {"session": session, "ok": found.difference is None, "check": found})
    elif found.difference is None:
        app.out.print(f"session {session}: {plural(found.facts, 'fact')}, no difference")
    else:
        _differs(app, session, found.difference)
    return 0 if found.difference is None else FAILED


def _differs(app: App, session: str, row: ReplayRow) -> None:
    app.out.print(Text(f"session {session} differs:", style="red"), soft_wrap=True)
    app.out.print(_line(row), soft_wrap=True)


async def _check_all(app: App, client: Client, *, as_json: bool) -> int:
    """Every session of the tenant; all of them, so that one difference does not hide others."""
    checked: dict[str, Check] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=app.err, disable=not app.err.is_terminal) as progress:
        names = await client.sessions()
        bar = progress.add_task("checking sessions", total=len(names))
        for name in names:
            checked[name] = await client.session(name).check()
            progress.advance(bar)
    differ = {name: one.difference for name, one in checked.items() if one.difference is not None}
    facts = sum(one.facts for one in checked.values())
    if as_json:
        print_json(
            app,
            {"sessions": len(checked), "facts": facts, "ok": not differ, "differences": differ},
        )
        return FAILED if differ else 0
    for name, row in differ.items():
        _differs(app, name, row)
    app.out.print(
        f"{plural(len(checked), 'session')}, {plural(facts, 'fact')}, "
        f"{plural(len(differ), 'difference') if differ else 'no difference'}"
    )
    return FAILED if differ else 0
