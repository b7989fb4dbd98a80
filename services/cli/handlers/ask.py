"""`millrace run` and `millrace chat`: submit, follow, and cancel on Ctrl-C after asking."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.text import Text

from services.cli.core.limits import limits_of
from services.cli.core.live import View, advance
from services.cli.core.words import printable
from services.cli.handlers.context import FAILED, App, Json, app_of, execute, print_json
from services.cli.handlers.display import Display, summary
from services.cli.ports import Client, Task
from shared.contracts.agents import LimitsPatch, OnBusy
from shared.contracts.facts import Done
from shared.errors import Broken, MillraceError

Agent = Annotated[str, typer.Option(help="The agent to ask.")]
SessionName = Annotated[str | None, typer.Option(help="The conversation; a new one by default.")]
Limits = Annotated[
    str,
    typer.Option(
        metavar="steps=N,tokens=N,seconds=N,cost=DOLLARS,repeats=N",
        help="Bounds; the agent's by default.",
    ),
]
Busy = Annotated[
    OnBusy | None,
    typer.Option(help="Where the session is busy: wait, fail, take its place, or join it."),
]


@dataclass(frozen=True, slots=True)
class Order:
    """What to ask of whom."""

    agent: str
    session: str | None
    limits: LimitsPatch | None
    follow: bool
    as_json: bool
    on_busy: OnBusy | None = None


def run_command(  # noqa: PLR0913  # options of a command line are its parameters (Typer)
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="What to ask.")],
    agent: Agent = "assistant",
    session: SessionName = None,
    follow: Annotated[bool, typer.Option(help="Show the steps and wait for the answer.")] = True,
    limits: Limits = "",
    on_busy: Busy = None,
    json: Json = False,
) -> None:
    """Ask a question: shows every step live, then the answer. Ctrl-C offers to cancel."""
    app = app_of(context)

    async def work(client: Client) -> int:
        order = Order(agent, session, limits_of(limits), follow, json, on_busy)
        return await ask(app, client, question, order)

    execute(app, work)


async def ask(app: App, client: Client, question: str, order: Order) -> int:
    """Submit one question; the exit code is the task's."""
    began = app.now()
    task = await client.ask(order.agent, question, order.session, order.limits, order.on_busy)
    if not order.follow:
        if order.as_json:
            print_json(app, {"task": task.id, "session": task.session})
        else:
            app.out.print(f"task {task.id} in session {task.session}", highlight=False)
        return 0
    if not order.as_json:
        app.err.print(f"task {task.id} in session {task.session}", style="dim", highlight=False)
    done = await follow_task(app, task, quiet=order.as_json)
    if done is None:
        app.err.print(f"it goes on; see `millrace show {task.id} --session {task.session}`")
        return FAILED
    show_end(app, task, done, app.now() - began, as_json=order.as_json)
    return 0 if done.status == "completed" else FAILED


def show_end(app: App, task: Task, done: Done, seconds: float, *, as_json: bool) -> None:
    """The answer on standard output, its cost on standard error."""
    if as_json:
        print_json(app, {"session": task.session, "seconds": round(seconds, 3), "result": done})
        return
    if done.output:
        app.out.print(Text(printable(done.output)), soft_wrap=True)
    if done.error is not None:
        app.err.print(Text(printable(f"{done.error.code}: {done.error.detail}"), style="red"))
    app.err.print(summary(done, seconds))


async def follow_task(app: App, task: Task, *, quiet: bool) -> Done | None:
    """Show a task until it ends. Ctrl-C asks once whether to cancel it; None when left alone."""
    with contextlib.ExitStack() as stack:
        display = None if quiet else stack.enter_context(Display(app.err))
        watching = asyncio.create_task(_watch(task, display))
        asked = False
        try:
            while True:
                pressed = asyncio.create_task(app.terminal.interrupted())
                await asyncio.wait({watching, pressed}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    await _drop(pressed)
                    return watching.result()
                if asked:
                    return None
                asked = True
                await _interrupt(app, task, display)
        finally:
            await _drop(watching)


async def _drop(task: asyncio.Task[None] | asyncio.Task[Done]) -> None:
    if not task.done():
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError, MillraceError):
        await task


async def _watch(task: Task, display: Display | None) -> Done:
    view = View()
    async with contextlib.aclosing(task.events()) as events:
        async for event in events:
            view = advance(view, event)
            if display is not None:
                display.show(view)
    if view.done is None:
        raise Broken("log_ended", f"the events of {task.id} ended before the task")
    return view.done


async def _interrupt(app: App, task: Task, display: Display | None) -> None:
    """Cancel the task, after asking where somebody can answer."""
    if display is not None:
        display.pause()
    if not app.terminal.interactive or await app.terminal.confirm(
        "Cancel the task? (It goes on without you otherwise; Ctrl-C again leaves it.)"
    ):
        try:
            await task.cancel(by="cli")
            app.err.print("cancelling ...", style="yellow")
        except MillraceError as error:
            app.err.print(Text(f"not cancelled: {error}", style="red"))
    if display is not None:
        display.resume()


def chat_command(
    context: typer.Context,
    agent: Agent = "assistant",
    session: SessionName = None,
    json: Json = False,
) -> None:
    """Talk to an agent in one session, line by line. Ends with Ctrl-D or an empty Ctrl-C."""
    app = app_of(context)

    async def work(client: Client) -> int:
        return await chat(app, client, Order(agent, session, None, True, json))

    execute(app, work)


async def chat(app: App, client: Client, order: Order) -> int:
    """One question after another; the first answer's session is kept."""
    session, code = order.session, 0
    while True:
        line = await app.terminal.line("" if order.as_json else "you> ")
        if line is None:
            app.err.print()
            return code
        if not line.strip():
            continue
        began = app.now()
        task = await client.ask(order.agent, line.strip(), session, order.limits)
        session = task.session
        done = await follow_task(app, task, quiet=order.as_json)
        if done is None:
            return FAILED
        show_end(app, task, done, app.now() - began, as_json=order.as_json)
        code = 0 if done.status == "completed" else FAILED
