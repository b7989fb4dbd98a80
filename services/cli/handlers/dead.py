"""`millrace dead`: messages that nobody could process; look at them, send them again."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.text import Text

from services.cli.core.letters import read_wanted
from services.cli.core.words import ago, clip, instant, plural, printable
from services.cli.handlers.context import USAGE, App, Json, app_of, execute, print_json
from services.cli.handlers.display import grid, print_table
from services.cli.ports import Client
from shared.contracts.dead import Filed, Retried
from shared.errors import Failure

_SHOWN = 4000
"""Characters of a body on a terminal; `--json` has all of it."""
dead = typer.Typer(help="Messages that nobody could process.", no_args_is_help=True)
Letter = Annotated[int, typer.Argument(min=1, help="The id, as `dead ls` shows it.")]
Everyone = Annotated[bool, typer.Option("--all", help="Of every tenant, and of none.")]


@dead.command("ls")
def list_command(
    context: typer.Context,
    where: Annotated[
        list[str] | None, typer.Option(help="session=S, consumer=C or code=E; may be repeated.")
    ] = None,
    after: Annotated[int, typer.Option(min=0, help="Ids above this one.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most this many.")] = 50,
    everyone: Everyone = False,
    json: Json = False,
) -> None:
    """Dead letters, the oldest first."""
    app = app_of(context)
    try:
        wanted = read_wanted(where or ())
    except ValueError as error:
        app.err.print(str(error), style="red", markup=False)
        raise typer.Exit(USAGE) from error

    async def work(client: Client) -> int:
        page = await client.dead(everyone=everyone).list(wanted, after, limit)
        if json:
            print_json(app, {"letters": [_data(one) for one in page.letters], "next": page.next})
            return 0
        _table(app, page.letters)
        if page.next is not None:
            app.err.print(f"more: millrace dead ls --after {page.next}")
        return 0

    execute(app, work)


def _table(app: App, letters: tuple[Filed, ...]) -> None:
    if not letters:
        app.err.print("no dead letters")
        return
    table = grid(
        *(("id", True), ("died", False), ("session", False), ("consumer", False)),
        *(("tries", True), ("error", False), ("retried", False), ("detail", False)),
    )
    for one in letters:
        error, letter = one.letter.error, one.letter
        table.add_row(
            *(str(one.id), ago(app.now() - one.time), one.session or "-", letter.consumer),
            *(
                str(letter.deliveries),
                error.code,
                "yes" if one.retried else "",
                clip(error.detail, 80),
            ),
        )
    print_table(app.out, table)


@dead.command("show")
def show_command(
    context: typer.Context, letter: Letter, everyone: Everyone = False, json: Json = False
) -> None:
    """A dead letter: its message, its error and the tries before."""
    app = app_of(context)

    async def work(client: Client) -> int:
        found = await client.dead(everyone=everyone).get(letter)
        if json:
            print_json(app, _data(found))
        else:
            _show(app, found)
        return 0

    execute(app, work)


def _show(app: App, found: Filed) -> None:
    letter = found.letter
    place = f"{letter.stream} {letter.sequence}"
    lines = (
        ("subject", letter.subject or "-"),
        ("stream", f"{place}, stored {instant(letter.time)}" if letter.time else place),
        ("whose", f"{found.tenant}/{found.session or '-'}"),
        ("consumer", f"{letter.consumer}, {plural(letter.deliveries, 'delivery')}"),
        ("died", instant(found.time)),
        ("error", _said(letter.error)),
        *(
            (f"try {one.delivery}", f"{instant(one.time)}  {_said(one.error)}")
            for one in letter.tries
        ),
        ("retried", _again(found.retried) if found.retried else "no"),
        *((name, value) for name, value in sorted(letter.headers.items())),
    )
    for name, value in lines:
        app.out.print(Text.assemble((f"{name:<12} ", "bold"), printable(value)), soft_wrap=True)
    what = {"cut": "the beginning of the message", "gone": "the message is gone"}
    app.err.print(what.get(letter.original, "the message"), style="dim")
    app.out.print(Text(printable(letter.body[:_SHOWN])), soft_wrap=True)


def _said(error: Failure) -> str:
    return f"{error.code}: {error.detail}" if error.detail else error.code


def _again(retried: Retried) -> str:
    who = f" by {retried.by}" if retried.by else ""
    return f"{instant(retried.time)}{who}, now {retried.stream} {retried.sequence}"


@dead.command("retry")
def retry_command(
    context: typer.Context,
    letters: Annotated[list[int], typer.Argument(min=1, help="The ids, as `dead ls` shows them.")],
    everyone: Everyone = False,
    json: Json = False,
) -> None:
    """Send their messages again, each once however often this is called."""
    app = app_of(context)

    async def work(client: Client) -> int:
        store = client.dead(everyone=everyone)
        for letter in letters:
            retried = await store.retry(letter, "cli")
            if json:
                print_json(app, {"id": letter, "retried": retried})
            else:
                app.out.print(f"letter {letter}: now {retried.stream} {retried.sequence}")
        return 0

    execute(app, work)


def _data(filed: Filed) -> dict[str, object]:
    return {
        "id": filed.id,
        "time": filed.time,
        "tenant": filed.tenant,
        "session": filed.session or None,
        "retried": filed.retried,
        **msgspec.to_builtins(filed.letter),
    }
