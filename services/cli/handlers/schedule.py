"""`millrace schedule`: tasks that are submitted at a time, at an interval or by cron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from services.cli.core.limits import limits_of
from services.cli.core.when import instant_of, seconds_of
from services.cli.core.words import ago, clip, duration, instant
from services.cli.handlers.ask import Agent, Busy, Limits
from services.cli.handlers.context import App, Json, app_of, execute, print_json
from services.cli.handlers.display import grid, print_table
from services.cli.ports import Client
from shared.contracts.agents import LimitsPatch
from shared.contracts.schedules import Schedule, Scheduled
from shared.contracts.tasks import TaskSubmitted, said

schedule = typer.Typer(help="Tasks at a time, at an interval or by cron.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The schedule's name.")]


@schedule.command("add")
def add_command(  # noqa: PLR0913  # options of a command line are its parameters (Typer)
    context: typer.Context,
    name: Name,
    question: Annotated[str, typer.Argument(metavar="INPUT", help="What to ask.")],
    agent: Agent = "assistant",
    session: Annotated[
        str, typer.Option(help="The conversation; a new one for each task by default.")
    ] = "",
    at: Annotated[str, typer.Option(metavar="TIME", help="2026-12-24T18:00, or +15m.")] = "",
    every: Annotated[str, typer.Option(metavar="TIME", help="90s, 15m, 1h30m, 1d.")] = "",
    cron: Annotated[str, typer.Option(metavar="EXPR", help="'0 8 * * MON-FRI', @daily.")] = "",
    zone: Annotated[str, typer.Option(help="Of cron, such as Europe/Berlin; else UTC.")] = "",
    limits: Limits = "",
    on_busy: Busy = None,
    json: Json = False,
) -> None:
    """Store a schedule, in the place of the one with that name."""
    app = app_of(context)

    async def work(client: Client) -> int:
        task = TaskSubmitted(
            input=question, limits=limits_of(limits) or LimitsPatch(), on_busy=on_busy
        )
        one = Schedule(
            agent=agent,
            task=task,
            session=session,
            at=instant_of(at, app.now()) if at else None,
            every_s=seconds_of(every) if every else None,
            cron=cron,
            zone=zone,
        )
        sequence = await client.schedules.put(name, one)
        if json:
            print_json(app, {"name": name, "schedule": one, "sequence": sequence})
        else:
            app.out.print(f"schedule {name}: {when_text(one)}", highlight=False, soft_wrap=True)
        return 0

    execute(app, work)


def when_text(one: Schedule) -> str:
    """`at 2026-12-24 18:00:00`, `every 15 m 00 s`, `0 8 * * MON-FRI (Europe/Berlin)`."""
    if one.at is not None:
        return f"at {instant(one.at)}"
    if one.every_s is not None:
        return f"every {duration(one.every_s * 1000)}"
    return f"{one.cron} ({one.zone or 'UTC'})"


@schedule.command("ls")
def list_command(context: typer.Context, json: Json = False) -> None:
    """The schedules that are left, by name."""
    app = app_of(context)

    async def work(client: Client) -> int:
        found = await client.schedules.list()
        if json:
            print_json(app, found)
        elif found:
            print_table(app.out, _table(app, found))
        else:
            app.err.print("no schedules")
        return 0

    execute(app, work)


def _table(app: App, found: Sequence[Scheduled]) -> Table:
    table = grid(
        *(("name", False), ("when", False), ("last", False), ("next", False)),
        *(("agent", False), ("session", False), ("", False)),
    )
    for one in found:
        table.add_row(
            one.name,
            when_text(one.schedule),
            ago(app.now() - one.last) if one.last else "never",
            instant(one.next) if one.next else "",
            one.schedule.agent,
            one.schedule.session or "(new)",
            Text(clip(said(one.schedule.task), 40), style="dim"),
        )
    return table


@schedule.command("rm")
def remove_command(context: typer.Context, name: Name, json: Json = False) -> None:
    """Remove a schedule; tasks that it has submitted go on."""
    app = app_of(context)

    async def work(client: Client) -> int:
        await client.schedules.delete(name)
        if json:
            print_json(app, {"removed": name})
        else:
            app.out.print(f"removed schedule {name}", highlight=False)
        return 0

    execute(app, work)
