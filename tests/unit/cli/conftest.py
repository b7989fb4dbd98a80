"""A command line over a fake system: `cli("run", "...")` gives exit code and both outputs."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner

from services.cli.adapters.http import over_http
from services.cli.core.place import Place
from services.cli.handlers.application import build
from services.cli.handlers.context import App, OverHttp
from services.cli.ports import BusKey
from shared.errors import MillraceError
from tests.fakes.cli_system import NOW, FakeProbes, FakeSystem, FakeTerminal
from tests.fakes.ledger_log import Recorder, arithmetic


class Launched(Exception):
    """The process would be another one now."""

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__(arguments)
        self.arguments = list(arguments)


@dataclass
class Launch:
    """Starts nothing, and knows one key."""

    key: BusKey | MillraceError | None = None
    asked: list[tuple[Place, str, Path | None]] = field(default_factory=list)

    def __call__(self, arguments: Sequence[str]) -> NoReturn:
        raise Launched(arguments)

    async def bus_key(self, place: Place, tenant: str, folder: Path | None) -> BusKey:
        self.asked.append((place, tenant, folder))
        assert self.key is not None
        if isinstance(self.key, MillraceError):
            raise self.key
        return self.key


@dataclass
class Outcome:
    code: int
    out: str
    err: str
    exception: BaseException | None = None

    def json(self) -> Any:
        return orjson.loads(self.out)


@dataclass
class Cli:
    system: FakeSystem
    place: Place
    terminal: FakeTerminal = field(default_factory=FakeTerminal)
    probes: FakeProbes = field(default_factory=FakeProbes)
    launch: Launch = field(default_factory=Launch)
    refusal: MillraceError | None = None
    seen: list[tuple[Place, str | None]] = field(default_factory=list)
    http: OverHttp = over_http

    def __call__(self, *arguments: str) -> Outcome:
        out, err = io.StringIO(), io.StringIO()

        @asynccontextmanager
        async def connect(place: Place, tenant: str | None) -> AsyncIterator[FakeSystem]:
            self.seen.append((place, tenant))
            if self.refusal is not None:
                raise self.refusal
            yield self.system

        app = App(
            place=self.place,
            connect=connect,
            http=self.http,
            terminal=self.terminal,
            probes=lambda _place, _tenant: self.probes,
            launch=self.launch,
            now=lambda: NOW,
            out=Console(file=out, width=200),
            err=Console(file=err, width=200),
        )
        result = CliRunner().invoke(build(), list(arguments), obj=app)
        failed = result.exception
        text = out.getvalue() + result.stdout
        return Outcome(result.exit_code, text, err.getvalue() + result.stderr, failed)


@pytest.fixture
def recorded() -> Recorder:
    log = Recorder()
    arithmetic(log)
    return log


@pytest.fixture
def cli(recorded: Recorder, tmp_path: Path) -> Cli:
    return Cli(
        FakeSystem(recorded.facts), Place(tmp_path, "127.0.0.1", 8080, tmp_path / "models.yaml")
    )
