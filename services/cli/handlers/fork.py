"""`millrace fork`: go on from a step of a session, in a new one."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.handlers.context import Json, app_of, execute, print_json
from services.cli.ports import Client
from shared.errors import Broken


def fork_command(  # noqa: PLR0913  # options of a command line are its parameters (Typer)
    context: typer.Context,
    session: Annotated[str, typer.Argument(help="The session to go on from.")],
    at: Annotated[str, typer.Option(metavar="STEP", help="TASK.N, or N of the last task.")],
    name: Annotated[str, typer.Option("--as", help="The new session's name.")] = "",
    model: Annotated[str, typer.Option(help="Another route for its model calls.")] = "",
    ask: Annotated[
        str | None, typer.Option("--input", help="What the task is asked instead.")
    ] = None,
    result: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP=TEXT", help="What a tool returned instead; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Run a session again from a step, with changes, in a new session."""
    app = app_of(context)
    results = _results(result or [])

    async def work(client: Client) -> int:
        made = await client.fork(
            session, at=at, name=name, route=model, input=ask, results=results, by="cli"
        )
        origin = await made.origin()
        if origin is None:
            raise Broken("internal", f"the fork {made.ref} has no beginning")
        if json:
            print_json(app, {"session": made.ref.session, "task": origin.task})
        else:
            app.out.print(f"task {origin.task} in session {made.ref.session}", soft_wrap=True)
            app.err.print(f"follow it: millrace logs {made.ref.session} --follow", soft_wrap=True)
        return 0

    execute(app, work)


def _results(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        step, there, text = one.partition("=")
        if not (there and step.isascii() and step.isdigit()):
            raise typer.BadParameter(f"{one!r} is not STEP=TEXT", param_hint="--result")
        found[step] = text
    return found
