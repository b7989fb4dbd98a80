"""`millrace bench`: a short measurement of the running system from its user's side.

Each task has a session of its own, which is deleted at the end. Per way in there is a first task
(what is cold costs it something), then tasks one after the other, then several at a time. Where the
first one fails the way is given up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from services.cli.core.bench import Figures, Spread, figures
from services.cli.core.words import duration, plural
from services.cli.handlers.context import FAILED, App, Json, app_of, execute, print_json
from services.cli.handlers.display import grid, print_table
from services.cli.handlers.measuring import Measurement, OverBus, Plan
from services.cli.ports import Client, Way
from shared.clock import mint_id
from shared.errors import Permanent, Transient

Over = Literal["both", "nats", "http"]
Question = Annotated[str, typer.Option(help="What every task asks.")]
Seconds = Annotated[float, typer.Option(min=0.0, max=600.0, help="How long a phase lasts.")]
AtOnce = Annotated[int, typer.Option(min=1, max=256, help="Tasks at a time in the second phase.")]
KeyFile = Annotated[
    Path | None, typer.Option(help="A file with the API key that HTTP is shown (MILLRACE_AUTH).")
]


def bench_command(  # noqa: PLR0913  # options of a command line are its parameters (Typer)
    context: typer.Context,
    agent: Annotated[str, typer.Option(help="The agent to ask.")] = "assistant",
    question: Question = "What is 17 * 23?",
    seconds: Seconds = 5.0,
    at_once: AtOnce = 4,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds for one task.")] = 60.0,
    over: Annotated[Over, typer.Option(help="Which ways in.")] = "both",
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Measure the running system: tasks over NATS and HTTP, alone and several at a time."""
    app = app_of(context)
    plan = Plan(mint_id("bench"), agent, question, seconds, at_once, patience)

    async def work(client: Client) -> int:
        if not await client.workers():
            detail = "no live inference worker; `millrace doctor` says more"
            raise Transient("no_worker", detail)
        async with _ways(app, client, over, _key_in(key_file)) as ways:
            return await bench(app, Measurement(client, plan, ways), as_json=json)

    execute(app, work)


async def bench(app: App, measurement: Measurement, *, as_json: bool) -> int:
    """Measure, clean up, tell; the exit code says whether everything went right."""
    try:
        phases = [phase async for phase in measurement.phases(lambda text: _say(app, text))]
    finally:
        _say(app, f"deleting {plural(measurement.made, 'session')}")
        left = await measurement.forget()
    found = [figures(phase) for phase in phases]
    if as_json:
        print_json(app, {"phases": found, "sessions_left": left})
    else:
        _table(app, found)
    for one in found:
        for code, count in one.errors.items():
            where = f"{one.over}, {one.phase}"
            app.err.print(f"{where}: {count} x {code}", style="red", markup=False)
    for session, why in left.items():
        line = f"not deleted: {session} ({why}); `millrace sessions rm {session} --force`"
        app.err.print(line, style="yellow", markup=False, soft_wrap=True)
    return FAILED if left or any(one.errors for one in found) else 0


@asynccontextmanager
async def _ways(app: App, client: Client, over: Over, key: str) -> AsyncIterator[list[Way]]:
    async with AsyncExitStack() as stack:
        ways: list[Way] = []
        if over != "http":
            ways.append(OverBus(client))
        if over != "nats":
            ways.append(
                await stack.enter_async_context(
                    app.http(app.place, app.tenant or client.tenant, key)
                )
            )
        yield ways


def _key_in(file: Path | None) -> str:
    """The key in a file, which is one line.

    Raises:
        Permanent: `invalid_key_file`.
    """
    if file is None:
        return ""
    try:
        key = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        detail = f"{file} cannot be read ({type(error).__name__}); it holds an API key, in one line"
        raise Permanent("invalid_key_file", detail, field="key_file") from error
    if len(key.split()) != 1:
        raise Permanent("invalid_key_file", f"{file} must hold one API key", field="key_file")
    return key


def _say(app: App, text: str) -> None:
    app.err.print(text, style="dim", highlight=False)


def _table(app: App, found: list[Figures]) -> None:
    table = grid(
        *(("over", False), ("tasks", False), ("done", True), ("failed", True)),
        *(("task p50", True), ("p95", True), ("first token p50", True), ("p95", True)),
        *(("Millrace a step p50", True), ("p95", True), ("tokens/s", True)),
    )
    for one in found:
        table.add_row(
            *(one.over, one.phase, str(one.tasks - one.failed), str(one.failed)),
            *(*_cells(one.task_ms), *_cells(one.first_token_ms), *_cells(one.overhead_ms)),
            f"{one.tokens_per_second:,.1f}",
        )
    print_table(app.out, table)


def _cells(value: Spread | None) -> tuple[str, str]:
    return ("-", "-") if value is None else (duration(value.p50), duration(value.p95))
