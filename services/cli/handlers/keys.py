"""`millrace keys`: a tenant's API keys (the first can only be made here) and its key of the bus."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from services.cli.core.limits import price_of
from services.cli.core.when import seconds_of
from services.cli.core.words import ago, instant
from services.cli.handlers.context import App, Json, app_of, execute, print_json, run
from services.cli.handlers.display import grid, print_table
from services.cli.ports import BusKey, Client
from shared.contracts.keys import Allowance, ApiKey, Issued, NewKey, Scope, state_of
from shared.contracts.ledger import UsageQuery
from shared.models import amount

_DEFAULT = "default"
keys = typer.Typer(help="API keys of the tenant.", no_args_is_help=True)
Key = Annotated[str, typer.Argument(help="The id, as `keys ls` shows it.")]
Requests = Annotated[int | None, typer.Option("--requests", min=0, help="A minute; 0: no limit.")]
Tokens = Annotated[int | None, typer.Option("--tokens", min=0, help="A minute; 0: no limit.")]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", min=0, help="At the same time; 0: no limit.")
]
Streams = Annotated[
    int | None, typer.Option("--streams", min=0, help="Open streams and sockets; 0: no limit.")
]
PerDay = Annotated[
    float | None, typer.Option("--budget-day", min=0, help="Money in a UTC day; 0: no limit.")
]
PerMonth = Annotated[
    float | None, typer.Option("--budget-month", min=0, help="Money in a UTC month; 0: no limit.")
]


@keys.command("create")
def create_command(  # noqa: PLR0913  # options of a command line are its parameters (Typer)
    context: typer.Context,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="inference, tasks, sessions, documents, usage; all by default."),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="Everything, for every tenant.")] = False,
    model: Annotated[
        list[str] | None, typer.Option(help="Route, model or agent:NAME; x* is a prefix.")
    ] = None,
    expires: Annotated[str, typer.Option(metavar="TIME", help="After 12h, 30d; else never.")] = "",
    requests: Requests = None,
    tokens: Tokens = None,
    concurrency: Concurrency = None,
    streams: Streams = None,
    budget_day: PerDay = None,
    budget_month: PerMonth = None,
    json: Json = False,
) -> None:
    """Make a key. Its secret is printed once and kept nowhere."""
    app = app_of(context)

    async def work(client: Client) -> int:
        chosen = ("admin",) if admin else tuple(scope or NewKey().scopes)
        order = NewKey(
            name=name,
            scopes=cast("tuple[Scope, ...]", chosen),
            models=tuple(model or ()),
            expires=app.now() + seconds_of(expires) if expires else 0.0,
            allowance=Allowance(
                requests_per_minute=requests,
                tokens_per_minute=tokens,
                concurrency=concurrency,
                max_streams=streams,
                budget_per_day=price_of(budget_day),
                budget_per_month=price_of(budget_month),
            ),
        )
        _print_issued(app, await client.keys.create(order), json=json)
        return 0

    execute(app, work)


def _print_issued(app: App, issued: Issued, *, json: bool) -> None:
    if json:
        print_json(app, _data(app, issued.key) | {"key": issued.secret})
        return
    app.out.print(issued.secret, markup=False, highlight=False, soft_wrap=True)
    app.err.print("This is shown once; only a hash of it is kept.", style="dim")


def _data(app: App, key: ApiKey) -> dict[str, Any]:
    """A key without what is kept of its secrets."""
    fields = {name: getattr(key, name) for name in key.__struct_fields__}
    for hidden in ("digest", "former", "revision"):
        del fields[hidden]
    return fields | {"state": state_of(key, app.now())}


@keys.command("ls")
def list_command(context: typer.Context, json: Json = False) -> None:
    """The tenant's keys, the oldest first."""
    app = app_of(context)

    async def work(client: Client) -> int:
        found = await client.keys.list()
        spent = await _spent(app, client, found)
        if json:
            print_json(app, [_data(app, key) | _spent_by(key, spent) for key in found])
        elif found:
            _keys_table(app, found, spent)
        else:
            app.err.print("no API keys")
        return 0

    execute(app, work)


Spent = dict[str, dict[str, int]]
"""`day` and `month` -> id of a key -> millionths of a cent."""


async def _spent(app: App, client: Client, keys: Sequence[ApiKey]) -> Spent:
    """What keys have spent of their budgets; nothing is asked where there are none."""
    if not any(one.allowance.budget_per_day or one.allowance.budget_per_month for one in keys):
        return {}
    today = datetime.fromtimestamp(app.now(), UTC).date()
    periods = {"day": today, "month": today.replace(day=1)}
    found: Spent = {}
    for period, since in periods.items():
        query = UsageQuery(tenant=client.tenant, keys=("key",), since=since.isoformat(), limit=500)
        rows = (await client.usage(query)).rows
        found[period] = {row.names["key"]: row.price for row in rows}
    return found


def _spent_by(key: ApiKey, spent: Spent) -> dict[str, dict[str, int]]:
    return {"spent": {period: keys.get(key.id, 0) for period, keys in spent.items()}}


def _keys_table(app: App, keys: Sequence[ApiKey], spent: Spent) -> None:
    table = grid(
        *(("id", False), ("state", False), ("created", False), ("expires", False)),
        *((f"spent this {period}", True) for period in spent),
        *(("scopes", False), ("name", False)),
    )
    for key in keys:
        limits = {"day": key.allowance.budget_per_day, "month": key.allowance.budget_per_month}
        money = [
            f"{amount(prices.get(key.id, 0))} of {amount(limits[period] or 0)}"
            if limits[period]
            else ""
            for period, prices in spent.items()
        ]
        created, state = ago(app.now() - key.created), state_of(key, app.now())
        until = instant(key.expires) if key.expires else "never"
        table.add_row(key.id, state, created, until, *money, ",".join(key.scopes), key.name)
    print_table(app.out, table)


@keys.command("show")
def show_command(context: typer.Context, key: Key, json: Json = False) -> None:
    """A key; its secret cannot be shown again."""
    app = app_of(context)

    async def work(client: Client) -> int:
        _print_key(app, await client.keys.get(key), json=json)
        return 0

    execute(app, work)


@keys.command("revoke")
def revoke_command(context: typer.Context, key: Key, json: Json = False) -> None:
    """End a key, at every replica."""
    app = app_of(context)

    async def work(client: Client) -> int:
        _print_key(app, await client.keys.revoke(key), json=json)
        return 0

    execute(app, work)


def _print_key(app: App, key: ApiKey, *, json: bool) -> None:
    data = _data(app, key)
    if json:
        print_json(app, data)
        return
    for name, value in data.items():
        app.out.print(f"{name:<14} {value}", markup=False, highlight=False, soft_wrap=True)


@keys.command("rotate")
def rotate_command(
    context: typer.Context,
    key: Key,
    overlap: Annotated[str, typer.Option(metavar="TIME", help="The old secret is valid for.")] = (
        "1d"
    ),
    json: Json = False,
) -> None:
    """Give a key a new secret; both are valid for a while."""
    app = app_of(context)

    async def work(client: Client) -> int:
        _print_issued(app, await client.keys.rotate(key, seconds_of(overlap)), json=json)
        return 0

    execute(app, work)


@keys.command("limits")
def limits_command(  # noqa: PLR0913  # options of a command line are its parameters (Typer)
    context: typer.Context,
    requests: Requests = None,
    tokens: Tokens = None,
    concurrency: Concurrency = None,
    streams: Streams = None,
    budget_day: PerDay = None,
    budget_month: PerMonth = None,
    json: Json = False,
) -> None:
    """Set how much the tenant may ask for, all its keys together; what is absent is the default."""
    app = app_of(context)

    async def work(client: Client) -> int:
        allowance = Allowance(
            requests_per_minute=requests,
            tokens_per_minute=tokens,
            concurrency=concurrency,
            max_streams=streams,
            budget_per_day=price_of(budget_day),
            budget_per_month=price_of(budget_month),
        )
        await client.keys.allow(allowance)
        if json:
            print_json(app, {"tenant": client.tenant, "limits": allowance})
        else:
            app.out.print(f"limits of {client.tenant} are set", highlight=False)
        return 0

    execute(app, work)


@keys.command("nats")
def nats_command(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="The broker's users, if it is not `make run`'s: from `infra.nats write`."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """The key with which the tenant's own NATS clients log in; made where there is none.

    They can submit, steer and hear tasks of their tenant, and reach nothing else.
    """
    app = app_of(context)

    async def work() -> int:
        tenant = app.tenant or _DEFAULT
        found = await app.launch.bus_key(app.place, tenant, folder)
        if json:
            told = {"tenant": tenant, "file": str(found.file), "known": found.known}
            print_json(app, told | {"url": found.url})
        else:
            _print_bus_key(app, tenant, found)
        return 0

    raise typer.Exit(run(app, work))


def _print_bus_key(app: App, tenant: str, key: BusKey) -> None:
    """The file on standard output; how it is used beside it."""
    app.out.print(str(key.file), markup=False, highlight=False, soft_wrap=True)
    url = key.url or "nats://..."
    state = (
        "the server knows it"
        if key.known
        else "the server knows it once it has read security.conf beside it again (a reload will do)"
    )
    lines = (
        f"{state}; whoever has this file is {tenant}",
        f"MILLRACE_NATS_URL={url} MILLRACE_NATS_CREDS={key.file}",
        f"async with Millrace.connect(tenant={tenant!r}) as m: ...",
    )
    for line in lines:
        app.err.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
