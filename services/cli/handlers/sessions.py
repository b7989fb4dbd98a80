"""`millrace sessions`: what can be done to whole sessions."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.handlers.context import FAILED, App, Json, app_of, execute, print_json
from services.cli.ports import Client

sessions = typer.Typer(help="Sessions as a whole.", no_args_is_help=True)


@sessions.command("rm")
def remove_command(
    context: typer.Context,
    session: Annotated[str, typer.Argument(help="The session.")],
    force: Annotated[bool, typer.Option(help="Cancel its tasks that have not ended.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forget a session, everywhere and for good; only its share of the bill stays."""
    app = app_of(context)

    async def work(client: Client) -> int:
        if not (yes or json or await _sure(app, session)):
            app.err.print("nothing was deleted")
            return FAILED
        reply = await client.session(session).delete(force=force, by="cli")
        if json:
            body = {"session": session, "sequence": reply.sequence, "complete": reply.complete}
            print_json(app, body)
        elif reply.complete:
            app.out.print(f"session {session} is deleted")
        else:
            app.out.print(f"session {session} is deleted; the rest of it goes as its work ends")
        return 0

    execute(app, work)


async def _sure(app: App, session: str) -> bool:
    """Without anybody to ask, whoever wrote the command has decided."""
    if not app.terminal.interactive:
        return True
    return await app.terminal.confirm(f"Delete session {session} for good?")
