"""`millrace tasks`, `show` and `logs`: what happened, from the ledger and from the log."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Literal

import msgspec
import typer
from rich.text import Text

from services.cli.core.describe import describe
from services.cli.core.waterfall import Bar, bars
from services.cli.core.words import (
    ago,
    clip,
    clock,
    duration,
    instant,
    money,
    plural,
    printable,
    tokens,
)
from services.cli.handlers.context import FAILED, App, Json, app_of, execute, print_json
from services.cli.handlers.display import grid, print_table
from services.cli.handlers.lookup import story_of
from services.cli.handlers.story import note_text, row_text
from services.cli.ports import Client
from shared.contracts.ledger import TasksQuery, TaskSummary
from shared.contracts.log import Event, StoredFact
from shared.contracts.tokens import TokenDelta
from shared.errors import Permanent, Transient
from shared.timeline import Timeline, overheads, p50, timeline

State = Literal["queued", "running", "parked", "completed", "failed", "cancelled"]
_COLOURS = {"completed": "green", "failed": "red", "running": "cyan"}
_COLOURS |= dict.fromkeys(("cancelled", "parked"), "yellow")
_AWAY = "the ledger is away; `millrace logs SESSION` and `show TASK --session SESSION` read the log"
_WIDE = 130
"""Columns from which a table shows everything."""
SiteName = Annotated[str, typer.Option(help="At a hub: a copy of what ran at this site.")]
Limit = Annotated[int, typer.Option(min=1, max=500, help="At most this many.")]


def tasks_command(
    context: typer.Context,
    session: Annotated[str | None, typer.Option(help="Only of this session.")] = None,
    status: Annotated[State | None, typer.Option(help="Only in this state.")] = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """Recent tasks, newest first."""
    app = app_of(context)

    async def work(client: Client) -> int:
        query = TasksQuery(tenant=client.tenant, session=session, status=status, limit=limit)
        try:
            reply = await client.tasks(query)
        except Transient as error:
            raise Transient(error.code, _AWAY) from error
        if json:
            print_json(app, reply.tasks)
        else:
            _tasks_table(app, reply.tasks)
        return 0

    execute(app, work)


def _tasks_table(app: App, found: tuple[TaskSummary, ...]) -> None:
    if not found:
        app.err.print("no tasks yet; try `millrace run 'What is 17 * 23?'`")
        return
    wide = app.out.width >= _WIDE
    optional = (("session", False), ("agent", False)) if wide else ()
    table = grid(
        *(("task", False), *optional, ("status", False), ("when", False)),
        *(("took", True), ("steps", True)),
        *((("cost", True),) if wide else ()),
        ("", False),
    )
    for task in found:
        end = task.done or app.now()
        words = task.error_code or task.output or task.input
        table.add_row(
            task.task,
            *((task.session, task.agent) if wide else ()),
            Text(task.status, style=_COLOURS.get(task.status, "")),
            ago(app.now() - task.submitted),
            duration(max(0.0, end - task.submitted) * 1000),
            str(task.steps),
            *((money(task.price),) if wide else ()),
            Text(clip(words, 40), style="dim"),
        )
    print_table(app.out, table)


def show_command(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="The task's id.")],
    session: Annotated[str | None, typer.Option(help="Its session, if the task is queued.")] = None,
    site: SiteName = "",
    json: Json = False,
) -> None:
    """The waterfall of a task: where its time and money went. Works from the log alone."""
    app = app_of(context)

    async def work(client: Client) -> int:
        found = await story_of(client, task, session, site)
        line = timeline(found.facts, task)
        if line is None:
            raise Permanent("unknown_task", f"session {found.session} has no task {task}")
        if found.site:
            app.err.print(f"a copy of what ran at {found.site}; act on it there", style="dim")
        if json:
            print_json(app, {"timeline": line, "overhead_p50_ms": p50(overheads(line))})
        else:
            _waterfall(app, line)
        return FAILED if line.status == "failed" else 0

    execute(app, work)


def _waterfall(app: App, line: Timeline) -> None:
    colour = _COLOURS.get(line.status, "")
    head = Text.assemble((f"{line.task}  ", "bold"), (line.status, colour))
    head.append(f"  {line.agent} in session {line.ref.session}, {instant(line.submitted)}")
    app.out.print(head, soft_wrap=True)
    app.out.print(Text(clip(line.question, 200), style="dim"), soft_wrap=True)
    app.out.print(Text(f"trace {line.trace_id}", style="dim"), soft_wrap=True)
    table = grid(("", True), ("step", False), ("time", False), ("", True), ("what", False))
    width = max(20, min(60, app.out.width - 62))
    for bar in bars(line, width, app.now()):
        table.add_row(
            str(bar.row.step), _label(bar), _bar_text(bar, width), _took(bar), row_text(bar.row)
        )
    if line.rows:
        print_table(app.out, table)
        app.out.print(Text("█ model or tool  ░ waiting for a slot  ▒ Millrace", style="dim"))
    for note in line.notes:
        app.out.print(note_text(note, duration((note.time - line.submitted) * 1000)))
    _totals(app, line)


def _label(bar: Bar) -> Text:
    style = {"failed": "red", "running": "yellow", "parked": "yellow"}.get(bar.row.status, "")
    icon = "●" if bar.row.kind == "infer" else "⚙"
    return Text(f"{icon} {clip(bar.row.label or 'model', 18)}", style=style)


def _bar_text(bar: Bar, width: int) -> Text:
    text = Text(" " * bar.offset)
    text.append("▒" * bar.own, style="magenta")
    text.append("░" * bar.queued, style="yellow")
    text.append("█" * bar.busy, style="cyan" if bar.row.kind == "infer" else "green")
    return text.append(" " * (width - bar.end))


def _took(bar: Bar) -> str:
    if bar.row.end is None:
        return "…"
    return duration((bar.row.end - bar.row.start) * 1000)


def _totals(app: App, line: Timeline) -> None:
    totals = line.totals
    took = (line.done or app.now()) - line.submitted
    words = [
        f"{duration(took * 1000)} in all, {duration(line.queue_ms)} queued",
        plural(totals.steps, "step"),
        tokens(totals.usage),
        money(totals.price),
    ]
    if (overhead := p50(overheads(line))) is not None:
        words.append(f"Millrace {duration(overhead)} a step (p50)")
    app.out.print(" · ".join(words), highlight=False, soft_wrap=True)
    if line.error:
        app.out.print(Text(printable(line.error), style="red"), soft_wrap=True)
    if line.output:
        app.out.print(Text(printable(line.output)), soft_wrap=True)


def logs_command(
    context: typer.Context,
    session: Annotated[str, typer.Argument(help="The session.")],
    start: Annotated[int, typer.Option("--from", min=0, help="From this sequence on.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as facts come.")] = False,
    site: SiteName = "",
    json: Json = False,
) -> None:
    """The facts of a session as they stand in the log, one line each."""
    app = app_of(context)
    if site and follow:
        raise typer.BadParameter("a copy cannot be followed; follow it at its site")

    async def work(client: Client) -> int:
        after = max(0, start - 1)
        last = after
        for stored in await _read(client, session, after, site):
            _print_fact(app, _fact_of(stored), as_json=json)
            last = stored.seq
        if last == after and not follow:
            app.err.print(f"session {session} has no facts here")
            return 0
        if follow:
            async with contextlib.aclosing(
                client.session(session).events(str(last) if last else "")
            ) as live:
                await _follow_facts(app, live, as_json=json)
        return 0

    execute(app, work)


async def _read(client: Client, session: str, after: int, site: str) -> Sequence[StoredFact]:
    if site:
        return await client.copy_of(site, session, after)
    return await client.session(session).history(after)


async def _follow_facts(app: App, events: AsyncIterator[Event], *, as_json: bool) -> None:
    async for event in events:
        if not isinstance(event.data, TokenDelta):
            _print_fact(app, event, as_json=as_json)


def _fact_of(stored: StoredFact) -> Event:
    return Event(str(stored.seq), stored.kind, stored.time, stored.task, stored.fact)


def _print_fact(app: App, event: Event, *, as_json: bool) -> None:
    if as_json:
        plain = msgspec.to_builtins(event)
        print_json(app, {**plain, "seq": int(event.id.partition(":")[0])})
        return
    if isinstance(event.data, TokenDelta):
        return
    line = describe(event.data)
    text = Text.assemble((f"{event.id:>8}  {clock(event.time)}  ", "dim"))
    text.append(f"{event.kind:<12} ", style=line.style)
    text.append(f"{event.task}  ", style="dim").append(f"{line.icon} {line.text}")
    app.out.print(text, soft_wrap=True)
