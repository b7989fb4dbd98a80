"""The commands put together: `millrace [--data FOLDER] [--tenant NAME] COMMAND`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.handlers import (
    ask,
    backup,
    bench,
    control,
    dead,
    docs,
    fork,
    history,
    keys,
    ledger,
    replay,
    schedule,
    sessions,
    system,
)
from services.cli.handlers.context import app_of


def choose(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Option(help="Data folder of the system (MILLRACE_DATA).")
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(help="In whose name (whose key MILLRACE_NATS_CREDS is, else default)."),
    ] = None,
) -> None:
    """Millrace: durable agents on your own machines."""
    context.obj = app_of(context).chosen(data, tenant)


def build() -> typer.Typer:
    """The command line. Its `obj` is an `App`."""
    application = typer.Typer(
        no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
    )
    application.callback()(choose)
    application.command("up")(system.up_command)
    application.command("run")(ask.run_command)
    application.command("chat")(ask.chat_command)
    application.command("tasks")(history.tasks_command)
    application.command("show")(history.show_command)
    application.command("logs")(history.logs_command)
    application.command("fork")(fork.fork_command)
    application.command("usage")(ledger.usage_command)
    application.command("cancel")(control.cancel_command)
    application.command("steer")(control.steer_command)
    application.command("approve")(control.approve_command)
    application.command("reject")(control.reject_command)
    application.command("retry")(control.retry_command)
    application.command("replay")(replay.replay_command)
    application.command("backup")(backup.backup_command)
    application.command("restore")(backup.restore_command)
    application.add_typer(schedule.schedule, name="schedule")
    application.add_typer(docs.docs, name="docs")
    application.add_typer(dead.dead, name="dead")
    application.add_typer(ledger.ledger, name="ledger")
    application.add_typer(keys.keys, name="keys")
    application.add_typer(sessions.sessions, name="sessions")
    application.command("models")(system.models_command)
    application.command("workers")(system.workers_command)
    application.command("doctor")(system.doctor_command)
    application.command("bench")(bench.bench_command)
    return application
