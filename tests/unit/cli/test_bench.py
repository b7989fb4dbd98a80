"""`millrace bench`: its figures, what it asks, and that it leaves no session behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.cli.core.bench import Phase, Sample, Spread, figures, quantile, spread
from services.cli.core.place import Place
from services.cli.handlers.measuring import Measurement, Plan
from shared.contracts.workers import WorkerState
from shared.errors import MillraceError, Permanent, Transient
from tests.fakes.cli_system import FakeSystem
from tests.unit.cli.conftest import Cli

PLAN = Plan("bench_1", "assistant", "17 * 23?", 0.0, 3, 5.0)
WORKER = WorkerState(worker="w1", model="nano", engine="openvino", slots=8)


@dataclass
class Scripted:
    """A way in that answers at once, with four tokens; a question after `well` of them fails."""

    name: str = "http"
    well: int = 1000
    never: bool = False
    keeps: dict[str, MillraceError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    async def ask(self, agent: str, question: str, session: str, heard: Callable[[], None]) -> int:
        self.asked.append(session)
        if len(self.asked) > self.well:
            raise Permanent("step_limit", "no")
        if self.never:
            await asyncio.Event().wait()
        heard()
        heard()
        return 4

    async def forget(self, session: str) -> None:
        if session in self.keeps:
            raise self.keeps[session]
        self.forgotten.append(session)


def measured(*ways: Scripted, plan: Plan = PLAN) -> tuple[list[Phase], dict[str, str]]:
    measurement = Measurement(FakeSystem(), plan, ways)

    async def run() -> tuple[list[Phase], dict[str, str]]:
        phases = [phase async for phase in measurement.phases(lambda _text: None)]
        return phases, await measurement.forget()

    return asyncio.run(run())


def test_a_quantile_is_one_of_the_values() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert quantile([float(n) for n in range(1, 21)], 0.95) == 19.0
    assert quantile([7.0], 0.95) == 7.0
    assert spread([]) is None


def test_figures_are_of_what_went_right() -> None:
    samples = (Sample(2.0, 0.5, 10), Sample(1.0, None, 30))
    found = figures(Phase("nats", 2, 4.0, samples, ("busy", "busy"), (3.0, 1.0), "2 at once"))
    assert (found.tasks, found.failed, found.errors) == (4, 2, {"busy": 2})
    assert found.task_ms == Spread(1000.0, 2000.0)
    assert found.first_token_ms == Spread(500.0, 500.0)
    assert found.overhead_ms == Spread(1.0, 3.0)
    assert (found.tokens_per_second, found.tasks_per_second) == (10.0, 0.5)


def test_figures_of_nothing_are_nothing() -> None:
    found = figures(Phase("nats", 1, 0.0, (), ("no_answer",)))
    assert found.task_ms is found.first_token_ms is found.overhead_ms is None
    assert found.tokens_per_second == 0.0


def test_every_way_has_three_phases_and_each_task_a_session() -> None:
    nats, http = Scripted("nats"), Scripted("http")
    phases, left = measured(nats, http)
    told = [(one.over, one.name, one.at_once, len(one.samples)) for one in phases]
    lanes = [("the first", 1, 1), ("one by one", 1, 1), ("3 at once", 3, 3)]
    assert told == [(way, *lane) for way in ("nats", "http") for lane in lanes]
    asked = nats.asked + http.asked
    assert len(set(asked)) == len(asked) == 10
    assert all(session.startswith("bench_1-") for session in asked)
    assert sorted(nats.forgotten) == sorted(nats.asked)
    assert sorted(http.forgotten) == sorted(http.asked)
    assert left == {}


def test_a_sample_is_the_first_text_and_all_tokens() -> None:
    phases, _ = measured(Scripted())
    sample = phases[0].samples[0]
    assert sample.tokens == 4
    assert sample.first is not None
    assert 0.0 <= sample.first <= sample.seconds


def test_a_way_whose_first_task_fails_is_given_up() -> None:
    phases, _ = measured(broken := Scripted("nats", well=0), Scripted("http"))
    assert [(one.over, one.errors) for one in phases][:2] == [
        ("nats", ("step_limit",)),
        ("http", ()),
    ]
    assert len(broken.asked) == 1


def test_a_lane_ends_with_its_first_error() -> None:
    phases, _ = measured(way := Scripted(well=2), plan=Plan("b", "a", "?", 600.0, 2, 5.0))
    assert [len(one.errors) for one in phases] == [0, 1, 2]
    assert len(way.asked) == 5


def test_a_task_without_an_end_is_an_error() -> None:
    phases, _ = measured(way := Scripted(never=True), plan=Plan("b", "a", "?", 0.0, 2, 0.01))
    assert [one.errors for one in phases] == [("no_answer",)]
    assert way.forgotten == way.asked


def test_what_cannot_be_deleted_is_told_unless_it_never_was() -> None:
    keeps: dict[str, MillraceError] = {
        "bench_1-1": Transient("no_responders"),
        "bench_1-2": Permanent("unknown_session"),
    }
    _, left = measured(Scripted(keeps=keeps))
    assert left == {"bench_1-1": "no_responders"}


def through(way: Scripted, seen: list[tuple[str, str]]) -> Callable[..., object]:
    @asynccontextmanager
    async def opened(_place: Place, tenant: str, key: str) -> AsyncIterator[Scripted]:
        seen.append((tenant, key))
        yield way

    return opened


def bench(cli: Cli, *more: str) -> tuple[str, ...]:
    cli.system.alive.append(WORKER)
    return ("bench", "--seconds", "0", "--at-once", "2", *more)


def test_the_table_and_the_exit_code(cli: Cli) -> None:
    cli.http = through(Scripted(), [])  # type: ignore[assignment]
    done = cli(*bench(cli, "--over", "http"))
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()] == ["over", "http", "http", "http"]
    assert "http: 2 at once, 0 s" in done.err
    assert "deleting 4 sessions" in done.err


def test_json_has_every_phase(cli: Cli) -> None:
    cli.http = through(Scripted(well=1), [])  # type: ignore[assignment]
    done = cli(*bench(cli, "--over", "http", "--json"))
    assert done.code == 1
    found = done.json()
    assert [one["errors"] for one in found["phases"]] == [{}, {"step_limit": 1}, {"step_limit": 2}]
    assert found["phases"][0]["first_token_ms"].keys() == {"p50", "p95"}
    assert found["sessions_left"] == {}
    assert "http, one by one: 1 x step_limit" in done.err


def test_a_key_comes_from_a_file(cli: Cli, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    cli.http = through(Scripted(), seen)  # type: ignore[assignment]
    file = tmp_path / "key"
    file.write_text("mr_secret\n")
    done = cli("--tenant", "acme", *bench(cli, "--over", "http", "--key-file", str(file)))
    assert (done.code, seen) == (0, [("acme", "mr_secret")])
    assert "mr_secret" not in done.out + done.err


@pytest.mark.parametrize("text", ["", "two words", None])
def test_a_file_without_a_key_is_wrong_usage(cli: Cli, tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "key"
    if text is not None:
        file.write_text(text)
    done = cli(*bench(cli, "--over", "http", "--key-file", str(file)))
    assert (done.code, done.out) == (2, "")
    assert "invalid_key_file" in done.err


def test_without_workers_nothing_is_asked(cli: Cli) -> None:
    done = cli("bench", "--seconds", "0")
    assert (done.code, cli.system.asked) == (1, [])
    assert "millrace doctor" in done.err


def test_over_nats_the_recorded_task_is_measured(cli: Cli) -> None:
    done = cli(*bench(cli, "--over", "nats", "--json"))
    phases = done.json()["phases"]
    assert [one["tasks"] for one in phases] == [1, 1, 2]
    assert all(one["errors"] == {} and one["task_ms"] for one in phases)
    assert {session for _, _, session, _ in cli.system.asked if session} == set(
        f"{cli.system.asked[0][2]}".removesuffix("1") + str(n) for n in range(1, 5)
    )
