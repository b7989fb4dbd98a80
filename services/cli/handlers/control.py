"""`millrace cancel`, `steer`, `approve`, `reject` and `retry`: what people say to a task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from services.cli.core.limits import price_of
from services.cli.handlers.ask import follow_task, show_end
from services.cli.handlers.context import FAILED, App, Json, app_of, execute, print_json
from services.cli.handlers.lookup import session_of
from services.cli.ports import Client, Task
from shared.contracts.agents import LimitsPatch

TaskName = Annotated[str, typer.Argument(help="The task's id.")]
Step = Annotated[
    int | None, typer.Argument(min=0, help="The step that waits; not needed where only one does.")
]
SessionName = Annotated[str | None, typer.Option(help="Its session, if the task is queued.")]
Note = Annotated[str, typer.Option(help="Why; it stands in the log.")]
By = Annotated[str, typer.Option(help="In whose name.")]
Verb = Callable[[Task], Awaitable[int]]


async def _find(client: Client, task: str, session: str | None) -> Task:
    return client.task(task, session or await session_of(client, task))


def _say(app: App, task: str, session: str | None, verb: Verb, words: str, as_json: bool) -> None:
    """Send a request and say what came of it."""

    async def work(client: Client) -> int:
        found = await _find(client, task, session)
        sequence = await verb(found)
        if as_json:
            print_json(app, {"task": task, "session": found.session, "sequence": sequence})
        else:
            app.out.print(f"{words} {task} (fact {sequence})", highlight=False, soft_wrap=True)
        return 0

    execute(app, work)


def cancel_command(
    context: typer.Context,
    task: TaskName,
    reason: Note = "",
    by: By = "cli",
    session: SessionName = None,
    json: Json = False,
) -> None:
    """Stop a task that runs or waits."""

    async def verb(found: Task) -> int:
        return await found.cancel(by, reason)

    _say(app_of(context), task, session, verb, "asked to cancel", json)


def steer_command(
    context: typer.Context,
    task: TaskName,
    text: Annotated[str, typer.Argument(help="What the model reads before its next answer.")],
    by: By = "cli",
    session: SessionName = None,
    json: Json = False,
) -> None:
    """Say something to a running task."""

    async def verb(found: Task) -> int:
        return await found.steer(text, by=by)

    _say(app_of(context), task, session, verb, "said to", json)


def approve_command(  # noqa: PLR0913  # options of a command line are its parameters (Typer)
    context: typer.Context,
    task: TaskName,
    step: Step = None,
    arguments: Annotated[
        str | None, typer.Option(metavar="JSON", help="Run it with these instead.")
    ] = None,
    result: Annotated[
        str | None, typer.Option(help="Do not run it: this is what the tool returned.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="New bound of the task.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="New bound of the task.")] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, metavar="DOLLARS")] = None,
    note: Note = "",
    by: By = "cli",
    session: SessionName = None,
    json: Json = False,
) -> None:
    """Let a parked step go on: as it is, with other arguments, or with a result in its place."""
    limits = LimitsPatch(max_steps=max_steps, max_tokens=max_tokens, max_cost=price_of(max_cost))

    async def verb(found: Task) -> int:
        return await found.approve(
            step,
            arguments=arguments,
            result=result,
            limits=limits if limits != LimitsPatch() else None,
            by=by,
            note=note,
        )

    _say(app_of(context), task, session, verb, "approved a step of", json)


def reject_command(  # noqa: PLR0913  # options of a command line are its parameters (Typer)
    context: typer.Context,
    task: TaskName,
    step: Step = None,
    note: Note = "",
    by: By = "cli",
    session: SessionName = None,
    json: Json = False,
) -> None:
    """Do not let a parked step go on; the model reads the note as the call's error."""

    async def verb(found: Task) -> int:
        return await found.reject(step, by=by, note=note)

    _say(app_of(context), task, session, verb, "rejected a step of", json)


def retry_command(  # options of a command line are its parameters (Typer)
    context: typer.Context,
    task: TaskName,
    follow: Annotated[bool, typer.Option(help="Show the steps and wait for the answer.")] = False,
    by: By = "cli",
    session: SessionName = None,
    json: Json = False,
) -> None:
    """Go on where a task failed, as a new task of its session."""
    app = app_of(context)

    async def work(client: Client) -> int:
        began = app.now()
        new = await (await _find(client, task, session)).retry(by=by)
        if not follow:
            if json:
                print_json(app, {"task": new.id, "session": new.session, "retry_of": task})
            else:
                app.out.print(f"task {new.id} in session {new.session}", highlight=False)
            return 0
        done = await follow_task(app, new, quiet=json)
        if done is None:
            return FAILED
        show_end(app, new, done, app.now() - began, as_json=json)
        return 0 if done.status == "completed" else FAILED

    execute(app, work)
