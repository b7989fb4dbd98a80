"""`millrace docs`: store documents, search, list and remove them, have the index built anew."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from services.cli.core.words import clip, plural
from services.cli.handlers.context import USAGE, App, Json, app_of, execute, print_json
from services.cli.handlers.display import grid, print_table
from services.cli.ports import Client, Documents
from shared.contracts.retrieval import IndexState
from shared.errors import Transient

SUFFIXES = (".md", ".txt")
_PATIENCE, _PAUSE = 120.0, 0.2
docs = typer.Typer(help="Documents that agents can search.", no_args_is_help=True)
Collection = Annotated[str, typer.Option(help="The collection.")]


@docs.command("add")
def add_command(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Files, or folders of them.")],
    collection: Collection = "default",
    wait: Annotated[bool, typer.Option(help="Wait until all of it can be searched.")] = True,
    json: Json = False,
) -> None:
    """Store .md and .txt files; the same path again replaces the document."""
    app = app_of(context)
    found = gather(paths)
    if not found:
        app.err.print(f"no {' or '.join(SUFFIXES)} files there", style="red")
        raise typer.Exit(USAGE)

    async def work(client: Client) -> int:
        store = client.documents(collection)
        with _progress(app) as progress:
            last, skipped = await _upload(app, store, found, progress)
            if wait and last:
                await _indexed(store, last, progress)
        count = len(found) - len(skipped)
        if json:
            print_json(app, {"documents": count, "sequence": last, "skipped": skipped})
        else:
            app.out.print(f"{plural(count, 'document')} in collection {collection}")
        return 1 if skipped else 0

    execute(app, work)


def gather(paths: list[Path]) -> dict[str, Path]:
    """Files by document id: the path below the folder that was named, else the file's name."""
    found: dict[str, Path] = {}
    for path in paths:
        if not path.is_dir():
            found[path.name] = path
            continue
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.suffix.lower() in SUFFIXES:
                found[file.relative_to(path).as_posix()] = file
    return found


def _progress(app: App) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=app.err, disable=not app.err.is_terminal)


async def _upload(
    app: App, store: Documents, found: dict[str, Path], progress: Progress
) -> tuple[int, list[str]]:
    """The last sequence, and the files that are no text."""
    bar = progress.add_task("uploading", total=len(found))
    last, skipped = 0, []
    for document, path in found.items():
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, OSError) as error:
            app.err.print(Text(f"skipped {path}: {type(error).__name__}", style="yellow"))
            skipped.append(str(path))
        else:
            last = await store.upsert(document, text)
        progress.advance(bar)
    return last, skipped


async def _indexed(store: Documents, last: int, progress: Progress) -> None:
    """Wait until the index has reached `last`.

    Raises:
        Transient: `index_behind`; the documents are stored all the same.
    """
    first = (await store.state()).watermark
    bar = progress.add_task("indexing", total=max(1, last - first))
    try:
        async with asyncio.timeout(_PATIENCE):
            while (reached := (await store.state()).watermark) < last:
                progress.update(bar, completed=max(0, reached - first))
                await asyncio.sleep(_PAUSE)
    except TimeoutError as error:
        raise Transient("index_behind", "stored; the index has not caught up yet") from error
    progress.update(bar, completed=max(1, last - first))


@docs.command("search")
def search_command(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    collection: Collection = "default",
    limit: Annotated[int, typer.Option(min=1, max=50, help="At most this many.")] = 3,
    min_score: Annotated[float, typer.Option(help="Least similarity, -1 to 1.")] = 0.0,
    json: Json = False,
) -> None:
    """Passages that answer a query, best first."""
    app = app_of(context)

    async def work(client: Client) -> int:
        reply = await client.documents(collection).search(query, limit, min_score)
        if json:
            print_json(app, reply.results)
            return 0
        for passage in reply.results:
            head = Text.assemble((f"{passage.score:.2f}  ", "cyan"), (passage.document, "bold"))
            app.out.print(head.append(f"  {passage.start}-{passage.end}", style="dim"))
            app.out.print(Text(clip(passage.text, 400)), soft_wrap=True)
        if not reply.results:
            app.err.print("nothing found")
        return 0

    execute(app, work)


@docs.command("ls")
def list_command(
    context: typer.Context, collection: Collection = "default", json: Json = False
) -> None:
    """The documents of a collection."""
    app = app_of(context)

    async def work(client: Client) -> int:
        found = await client.documents(collection).list()
        if json:
            print_json(app, found)
            return 0
        table = grid(("document", False))
        for name in found:
            table.add_row(Text(name))
        if found:
            print_table(app.out, table)
        app.err.print(f"{plural(len(found), 'document')} in collection {collection}")
        return 0

    execute(app, work)


@docs.command("rm")
def remove_command(
    context: typer.Context,
    documents: Annotated[list[str], typer.Argument(help="The ids, as `docs ls` shows them.")],
    collection: Collection = "default",
    json: Json = False,
) -> None:
    """Remove documents; the index forgets them too."""
    app = app_of(context)

    async def work(client: Client) -> int:
        store = client.documents(collection)
        there = set(await store.list())
        missing = [name for name in documents if name not in there]
        removed = [name for name in documents if name in there]
        for name in removed:
            await store.delete(name)
        if json:
            print_json(app, {"removed": removed, "missing": missing})
        else:
            app.out.print(f"removed {plural(len(removed), 'document')}")
        for name in missing:
            app.err.print(Text(f"there is no document {name!r}", style="red"))
        return 1 if missing else 0

    execute(app, work)


@docs.command("rebuild")
def rebuild_command(context: typer.Context, json: Json = False) -> None:
    """Empty the index and fill it again from the documents of all tenants, while the system runs.

    Until it has, searches find what has come so far. Ctrl-C ends the watching, not the rebuild.
    """
    app = app_of(context)

    async def work(client: Client) -> int:
        before = await client.index_state()
        order = await client.rebuild_index()
        with _progress(app) as progress:
            after = await _refilled(client, order, progress)
        if json:
            told = {"documents": order.remaining, "sequence": after.watermark}
            print_json(app, told | {"passages": {"before": before.chunks, "after": after.chunks}})
        else:
            read = f"{plural(order.remaining, 'document')} read, {plural(after.chunks, 'passage')}"
            app.out.print(f"{read} (before: {before.chunks})", highlight=False)
        return 0

    execute(app, work)


async def _refilled(client: Client, order: IndexState, progress: Progress) -> IndexState:
    """The state once everything is in the index that was there when it was ordered.

    Raises:
        Transient: retrieval went away and did not come back; it goes on when it does.
    """
    bar = progress.add_task("indexing", total=max(1, order.remaining))
    state, away = order, 0.0
    while state.remaining and state.watermark < order.newest:
        progress.update(bar, completed=max(0, order.remaining - state.remaining))
        await asyncio.sleep(_PAUSE)
        try:
            state, away = await client.index_state(), 0.0
        except Transient:
            away += _PAUSE
            if away > _PATIENCE:
                raise
    progress.update(bar, completed=max(1, order.remaining))
    return state
