"""`millrace usage` and `ledger rebuild`: what was used, and the same from the log again."""

from __future__ import annotations

import asyncio
from typing import Annotated, get_args

import typer
from msgspec.structs import replace
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from services.cli.core.words import duration, money
from services.cli.handlers.context import FAILED, App, Json, app_of, execute, print_json
from services.cli.handlers.display import grid, print_table
from services.cli.ports import Client
from shared.contracts.ledger import (
    NO_TIMES,
    LedgerQuery,
    LedgerState,
    RebuildLedger,
    UsageKey,
    UsageQuery,
    UsageReply,
    UsageSummary,
)
from shared.errors import Permanent, Transient

Limit = Annotated[int, typer.Option(min=1, max=500, help="At most this many.")]
KEYS: tuple[UsageKey, ...] = get_args(UsageKey)
COMPARED: tuple[UsageKey, ...] = ("day", "agent", "model")
_LOOK_EVERY = 0.1
_AWAY_FOR = 60.0
"""Seconds that the ledger may be away in the middle: it goes on where it was when it comes back."""

ledger = typer.Typer(help="The projection of the log into SQL.", no_args_is_help=True)


def grouping(text: str) -> tuple[UsageKey, ...]:
    """What `--by` asks for.

    Raises:
        Permanent: `invalid_grouping`.
    """
    known: dict[str, UsageKey] = {key: key for key in KEYS}
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise Permanent("invalid_grouping", f"--by takes {', '.join(KEYS)}; not {unknown[0]!r}")
    return tuple(dict.fromkeys(known[name] for name in names))


def usage_command(  # noqa: PLR0913  # options of a command line are its parameters (Typer)
    context: typer.Context,
    by: Annotated[str, typer.Option(help=f"Group by {', '.join(KEYS)}; commas join.")] = "day",
    session: Annotated[str | None, typer.Option(help="Only of this session.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    since: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="From this day (UTC) on.")] = "",
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """Tokens and money, from the ledger."""
    app = app_of(context)

    async def work(client: Client) -> int:
        query = UsageQuery(
            tenant=client.tenant,
            keys=grouping(by),
            session=session,
            agent=agent,
            model=model,
            since=since,
            limit=limit,
        )
        reply = await client.usage(query)
        if json:
            whole = {"rows": reply.rows, "total": reply.total, "sequence": reply.sequence}
            print_json(app, whole | {"rebuilding": reply.rebuilding})
        else:
            _usage_table(app, query.grouping, reply)
        return 0

    execute(app, work)


def _usage_table(app: App, keys: tuple[UsageKey, ...], reply: UsageReply) -> None:
    if reply.rebuilding:
        app.err.print("the ledger reads the log again: sums are too low until it has")
    if not reply.rows:
        app.err.print("nothing used yet")
        return
    table = grid(
        *((key, False) for key in keys),
        *(("calls", True), ("input", True), ("cached", True), ("output", True)),
        *(("p50", True), ("p95", True), ("cost", True)),
    )
    rows = [*reply.rows, reply.total] if reply.total and len(reply.rows) > 1 else reply.rows
    for row in rows:
        names = [row.names.get(key, row.key if len(keys) == 1 else "") for key in keys]
        if row is reply.total:
            names[0] = row.key
        table.add_row(
            *(name or "(direct)" for name in names),
            *_numbers(row),
            style="bold" if row is reply.total else "",
        )
    print_table(app.out, table)
    if reply.more:
        app.err.print("there is more; --limit shows up to 500 rows")


def _numbers(row: UsageSummary) -> tuple[str, ...]:
    times = row.latency
    return (
        *(f"{number:,}" for number in (row.calls, *_tokens(row))),
        *(duration(one) if times.count else "" for one in (times.p50_ms, times.p95_ms)),
        money(row.price),
    )


def _tokens(row: UsageSummary) -> tuple[int, int, int]:
    return row.usage.input, row.usage.cached, row.usage.output


@ledger.command("rebuild")
def rebuild_command(
    context: typer.Context,
    forget: Annotated[
        bool, typer.Option("--forget", help="Even if the log no longer reaches back as far.")
    ] = False,
    json: Json = False,
) -> None:
    """Drop the ledger's rows and read the log again, while the system runs.

    Exits 1 if the tenant's totals up to that moment are not the same afterwards.
    """
    app = app_of(context)

    async def work(client: Client) -> int:
        start = await client.ledger_state(LedgerQuery())
        before = await _totals(client, start.settled)
        order = await client.rebuild_ledger(RebuildLedger(forget=forget))
        await _watch(app, client, order, quiet=json)
        after = await _totals(client, start.settled)
        same = before == after
        if json:
            told = {"sequence": start.settled, "before": before, "after": after, "same": same}
            print_json(app, told)
        else:
            _compared(app, before, after, same=same)
        return 0 if same else FAILED

    execute(app, work)


async def _totals(client: Client, upto: int) -> tuple[UsageSummary, ...]:
    """The sums and their parts, of facts up to a sequence. Times are left out: those of deleted
    sessions cannot come back."""
    query = UsageQuery(tenant=client.tenant, keys=COMPARED, upto=upto, limit=500)
    reply = await client.usage(query)
    rows = (*reply.rows, *((reply.total,) if reply.total else ()))
    return tuple(replace(row, latency=NO_TIMES) for row in rows)


async def _watch(app: App, client: Client, order: LedgerState, *, quiet: bool) -> None:
    """Until the ledger has read what it dropped.

    Raises:
        Transient: the ledger went away and did not come back.
    """
    columns = (TextColumn("reading the log"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=app.err, disable=quiet, transient=True) as progress:
        bar = progress.add_task("", total=order.replay_until)
        state, away = order, 0.0
        while state.replaying:
            progress.update(bar, completed=min(state.replay_from, state.replay_until))
            await asyncio.sleep(_LOOK_EVERY)
            try:
                state, away = await client.ledger_state(LedgerQuery()), 0.0
            except Transient:
                away += _LOOK_EVERY
                if away > _AWAY_FOR:
                    raise


def _compared(
    app: App, before: tuple[UsageSummary, ...], after: tuple[UsageSummary, ...], *, same: bool
) -> None:
    table = grid(
        *(("", False), ("calls", True), ("input", True), ("cached", True), ("output", True)),
        ("cost", True),
    )
    for name, rows in (("before", before), ("after", after)):
        total = rows[-1]
        numbers = [f"{number:,}" for number in (total.calls, *_tokens(total))]
        table.add_row(name, *numbers, money(total.price))
    print_table(app.out, table)
    if same:
        app.out.print("the same, by day, agent and model too")
        return
    app.err.print("not the same:", style="red")
    for row in sorted(set(map(_line, before)) ^ set(map(_line, after))):
        app.err.print(f"  {row}", markup=False, highlight=False)


def _line(row: UsageSummary) -> str:
    return f"{row.key}: {row.calls} calls, tokens {_tokens(row)}, {money(row.price)}"
