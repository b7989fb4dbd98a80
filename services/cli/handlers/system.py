"""`millrace up`, `models`, `workers` and `doctor`: the system itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from services.cli.core.checks import Check, verdict
from services.cli.core.words import ago
from services.cli.handlers.context import (
    FAILED,
    App,
    Json,
    app_of,
    execute,
    print_json,
    run,
)
from services.cli.handlers.display import grid, print_table
from services.cli.ports import Client
from shared.contracts.workers import WorkerState

_ICONS = {"ok": ("✔", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


def up_command(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The HTTP port.")] = None,
    quiet: Annotated[bool, typer.Option(help="Print nothing but errors.")] = False,
    only_broker: Annotated[
        bool, typer.Option("--only-broker", help="The broker without any service.")
    ] = False,
    json: Json = False,
) -> None:
    """Start the whole system on this machine, in the foreground; Ctrl-C stops it."""
    app = app_of(context)
    data: Path = app.place.data.absolute()
    arguments = ["--data", str(data)]
    if port is not None:
        arguments += ["--port", str(port)]
    if quiet or json:
        arguments.append("--quiet")
    if only_broker:
        arguments.append("--only-broker")
    if json:
        print_json(app, {"data": str(data), "url": app.place.url(port)})
    app.launch(arguments)


def workers_command(context: typer.Context, json: Json = False) -> None:
    """The inference workers that are alive, and how busy they are."""
    app = app_of(context)

    async def work(client: Client) -> int:
        found = sorted(await client.workers(), key=lambda one: (one.model, one.worker))
        if json:
            print_json(app, found)
        else:
            _workers_table(app, found)
        return 0

    execute(app, work)


def _held(state: WorkerState) -> str:
    """The part of the KV cache that running requests hold."""
    held = state.blocks - state.blocks_free - state.blocks_cached
    return f"{held / state.blocks:.0%}" if state.blocks else ""


def _workers_table(app: App, found: Sequence[WorkerState]) -> None:
    if not found:
        app.err.print("no live worker; `millrace doctor` says more", style="yellow")
        return
    table = grid(
        *(("worker", False), ("model", False), ("engine", False), ("running", True)),
        *(("slots", True), ("waiting", True), ("kv in use", True), ("context", True)),
        ("started", False),
    )
    for one in found:
        started = ago(app.now() - one.started) if one.started else ""
        table.add_row(
            *(one.worker, one.model, one.engine, str(one.running), str(one.slots)),
            *(str(one.waiting), _held(one), f"{one.context:,}", started),
        )
    print_table(app.out, table)
    for one in found:
        if one.out:
            app.err.print(f"{one.worker} is out of rotation: {one.out}", style="yellow")


def models_command(context: typer.Context, json: Json = False) -> None:
    """The models that can be used now, and the agents that use a route to them."""
    app = app_of(context)

    async def work(client: Client) -> int:
        workers, agents = await client.workers(), await client.agents()
        models = _models(workers)
        named = {name: {"revision": rev, "route": spec.route} for name, (rev, spec) in
                 sorted(agents.items())}  # fmt: skip
        if json:
            print_json(app, {"models": models, "agents": named})
            return 0
        table = grid(("model", False), ("engine", False), ("workers", True), ("slots", True))
        for name, one in models.items():
            table.add_row(name, str(one["engine"]), str(one["workers"]), str(one["slots"]))
        print_table(app.out, table)
        for agent, about in named.items():
            line = f"agent {agent} revision {about['revision']}: route {about['route']}"
            app.out.print(Text(line, style="dim"))
        return 0

    execute(app, work)


def _models(workers: Sequence[WorkerState]) -> dict[str, dict[str, object]]:
    names = sorted({one.model for one in workers})
    found: dict[str, dict[str, object]] = {}
    for name in names:
        own = [one for one in workers if one.model == name]
        found[name] = {
            "engine": ", ".join(sorted({one.engine for one in own})),
            "workers": len(own),
            "slots": sum(one.slots for one in own),
            "running": sum(one.running for one in own),
            "context": max(one.context for one in own),
        }
    return found


def doctor_command(
    context: typer.Context,
    gpu: Annotated[bool, typer.Option("--gpu", help="Look at the GPUs of this machine.")] = False,
    json: Json = False,
) -> None:
    """Check every part and say how to mend what is broken."""
    app = app_of(context)
    probes = app.probes(app.place, app.tenant)

    async def work() -> int:
        checks = await probes.gpu() if gpu else [*probes.machine(), *await probes.system()]
        if json:
            print_json(app, {"ok": verdict(checks), "checks": checks})
        else:
            _report(app, checks)
        return 0 if verdict(checks) else FAILED

    raise typer.Exit(run(app, work))


def _report(app: App, checks: Sequence[Check]) -> None:
    for check in checks:
        icon, style = _ICONS[check.outcome]
        line = Text.assemble((f"{icon} ", style), (f"{check.name:<10} ", "bold"))
        app.out.print(line.append(check.found), soft_wrap=True)
        if check.outcome != "ok" and check.fix:
            app.out.print(Text(f"  {'':<10} fix: {check.fix}", style=style), soft_wrap=True)
    broken = [check.name for check in checks if check.outcome == "failed"]
    end = f"wrong: {', '.join(broken)}" if broken else "everything is in order"
    app.out.print(Text(end, style="bold red" if broken else "bold green"))
