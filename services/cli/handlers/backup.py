"""`millrace backup` and `millrace restore`: every durable stream as files, and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.handlers.context import App, Json, app_of, print_json, run
from services.cli.handlers.display import grid, print_table
from services.cli.ports import Client, Said
from shared.contracts.backup import Manifest
from shared.errors import Transient

Folder = Annotated[Path, typer.Argument(help="The folder of the backup.")]


def backup_command(context: typer.Context, folder: Folder, json: Json = False) -> None:
    """Write every durable stream into a new folder, while the system works or when it is stopped.

    The folder holds what every session said: keep it as you keep the data folder itself.
    """
    app = app_of(context)

    async def work(client: Client) -> int:
        with _progress(app, quiet=json) as said:
            manifest = await client.backup(folder.absolute(), said)
        _show(app, folder, manifest, as_json=json)
        return 0

    _with_a_broker(app, work)


def restore_command(
    context: typer.Context,
    folder: Folder,
    force: Annotated[
        bool, typer.Option("--force", help="Give up what the server has now.")
    ] = False,
    json: Json = False,
) -> None:
    """Make every stream of a backup on an empty server. No service may run meanwhile."""
    app = app_of(context)

    async def work(client: Client) -> int:
        with _progress(app, quiet=json) as said:
            manifest = await client.restore(folder.absolute(), said, force=force)
        _show(app, folder, manifest, as_json=json)
        if not json:
            app.err.print(
                "start the system; it builds an empty ledger and index anew by itself. Where a "
                "database or an index survived, see infra/runbooks/restore.md"
            )
        return 0

    _with_a_broker(app, work)


def _with_a_broker(app: App, work: Callable[[Client], Awaitable[int]]) -> None:
    """Use the broker that runs; where none does, start that of the data folder meanwhile."""

    async def connected() -> int:
        async with app.connect(app.place, app.tenant) as client:
            return await work(client)

    async def somehow() -> int:
        try:
            return await connected()
        except Transient as error:
            if error.code != "no_broker" or not app.place.embedded:
                raise
        async with app.launch.broker(app.place.data.absolute()):
            return await connected()

    raise typer.Exit(run(app, somehow))


@contextmanager
def _progress(app: App, *, quiet: bool) -> Iterator[Said]:
    columns = (TextColumn("{task.description}"), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=app.err, disable=quiet, transient=True) as progress:
        bar = progress.add_task("", total=None)

        def said(stream: str, done: int) -> None:
            progress.update(bar, description=stream, completed=done)

        yield said


def _show(app: App, folder: Path, manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        streams = {one.stream: {"messages": one.messages, "last": one.last, "bytes": one.bytes}
                   for one in manifest.streams}  # fmt: skip
        print_json(app, {"folder": str(folder.absolute()), "streams": streams})
        return
    table = grid(("stream", False), ("messages", True), ("up to", True), ("bytes", True))
    for one in manifest.streams:
        table.add_row(one.stream, f"{one.messages:,}", f"{one.last:,}", f"{one.bytes:,}")
    print_table(app.out, table)
    app.out.print(f"{manifest.messages:,} messages in {folder}", markup=False, soft_wrap=True)
