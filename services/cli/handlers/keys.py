"""`millrace keys`: the API keys of a tenant. The first one can only be made here."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from services.cli.core.when import seconds_of
from services.cli.core.words import ago, instant
from services.cli.handlers.context import App, Json, app_of, execute, print_json
from services.cli.handlers.display import grid, print_table
from services.cli.ports import Client
from shared.contracts.keys import Allowance, ApiKey, Issued, NewKey, Scope, state_of

keys = typer.Typer(help="API keys of the tenant.", no_args_is_help=True)
Key = Annotated[str, typer.Argument(help="The id, as `keys ls` shows it.")]
Requests = Annotated[int | None, typer.Option("--requests", min=0, help="A minute; 0: no limit.")]
Tokens = Annotated[int | None, typer.Option("--tokens", min=0, help="A minute; 0: no limit.")]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", min=0, help="At the same time; 0: no limit.")
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
            allowance=_allowance(requests, tokens, concurrency),
        )
        _print_issued(app, await client.keys.create(order), json=json)
        return 0

    execute(app, work)


def _allowance(requests: int | None, tokens: int | None, concurrency: int | None) -> Allowance:
    return Allowance(
        requests_per_minute=requests, tokens_per_minute=tokens, concurrency=concurrency
    )


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
        if json:
            print_json(app, [_data(app, key) for key in found])
        elif found:
            table = grid(
                *(("id", False), ("state", False), ("created", False)),
                *(("expires", False), ("scopes", False), ("name", False)),
            )
            for key in found:
                created, state = ago(app.now() - key.created), state_of(key, app.now())
                until = instant(key.expires) if key.expires else "never"
                table.add_row(key.id, state, created, until, ",".join(key.scopes), key.name)
            print_table(app.out, table)
        else:
            app.err.print("no API keys")
        return 0

    execute(app, work)


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
def limits_command(
    context: typer.Context,
    requests: Requests = None,
    tokens: Tokens = None,
    concurrency: Concurrency = None,
    json: Json = False,
) -> None:
    """Set how much the tenant may ask for, all its keys together; what is absent is the default."""
    app = app_of(context)

    async def work(client: Client) -> int:
        allowance = _allowance(requests, tokens, concurrency)
        await client.keys.allow(allowance)
        if json:
            print_json(app, {"tenant": client.tenant, "limits": allowance})
        else:
            app.out.print(f"limits of {client.tenant} are set", highlight=False)
        return 0

    execute(app, work)
