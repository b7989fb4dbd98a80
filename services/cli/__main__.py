"""Composition root of the command line: `millrace`, or `python -m services.cli`."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial

from pydantic import ValidationError
from rich.console import Console

from services.cli.adapters.client import CommandClient, connect
from services.cli.adapters.gpu import GpuProbes
from services.cli.adapters.http import over_http
from services.cli.adapters.launch import Supervisor
from services.cli.adapters.probes import SystemProbes
from services.cli.adapters.terminal import SystemTerminal
from services.cli.core.place import Place
from services.cli.handlers.application import build
from services.cli.handlers.context import FAILED, App
from services.cli.settings import ROOT, CliSettings, environment_for_children
from shared.clock import now
from shared.errors import MillraceError
from shared.settings import masked

PIPE_WIDTH = 200


def console(*, stderr: bool = False) -> Console:
    """The terminal as wide as it is; a pipe gets lines that nobody has to put together again."""
    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=PIPE_WIDTH)


def compose(settings: CliSettings) -> App:
    """The real parts behind the commands."""

    def reach(place: Place, tenant: str | None) -> AbstractAsyncContextManager[CommandClient]:
        return connect(settings.address_on(place.data if place.chosen else None), tenant)

    gpu = GpuProbes(ROOT, environment_for_children())
    place = Place(settings.data, settings.http_host, settings.http_port, settings.models)
    return App(
        place=replace(place, embedded=settings.nats_url is None),
        connect=reach,
        http=over_http,
        terminal=SystemTerminal(),
        probes=lambda place, tenant: SystemProbes(place, ROOT, partial(reach, place, tenant), gpu),
        launch=Supervisor(environment_for_children()),
        now=now,
        out=console(),
        err=console(stderr=True),
    )


def main() -> int:
    """Run a command; the exit code comes from it."""
    try:
        settings = CliSettings()
    except (MillraceError, ValidationError) as error:
        sys.stderr.write(f"millrace: {error}\n")
        return FAILED
    if sys.argv[1:] == ["--print-settings"]:
        sys.stdout.write(masked(settings) + "\n")
        return 0
    build()(obj=compose(settings), prog_name="millrace")
    return 0


if __name__ == "__main__":
    sys.exit(main())
