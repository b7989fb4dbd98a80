"""What fails a run, and that nothing in it is a time of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loadtests.baseline import FOLDER, Baseline, baseline_of, read_baseline, write_baseline
from loadtests.plan import Ends, Raw
from loadtests.profiles import PROFILES, Limits
from loadtests.result import Breach
from loadtests.verdict import judge
from shared.errors import Permanent, Transient
from tests.unit.loadtests.runs import PROFILE, judged, phase, raw, setting


def rules(breaches: tuple[Breach, ...]) -> set[str]:
    return {breach.rule for breach in breaches}


def test_a_run_that_keeps_its_limits_passes() -> None:
    found = judged()
    assert found.passed
    assert found.breaches == ()
    assert found.sums.operations == 100
    assert found.sums.steps_per_second == 3
    assert found.sums.tokens_per_second == 50


def test_the_slower_floor_counts_and_a_queue_is_everybody_else_first() -> None:
    line = judged().lines[0]
    assert line.times is not None
    assert line.times.floor_ms == pytest.approx(100, rel=0.02)
    assert line.times.stretch == pytest.approx(4, rel=0.03)
    assert line.times.median == pytest.approx(1, rel=0.03)
    assert line.cost == pytest.approx(100, rel=0.03)


def test_gain_is_the_work_of_one_client_in_the_time_of_all() -> None:
    sums = judged().sums
    assert sums.gain == pytest.approx(100 * 0.1 / 10, rel=0.03)
    assert sums.stretch == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("factor", [0.01, 1.0, 40.0])
def test_a_slower_machine_gets_the_same_verdict(factor: float) -> None:
    found = raw()
    slow = Raw(
        before=phase(0.1 * factor, 4, 0.001 * factor),
        load=phase(0.4 * factor, 25, length=10 * factor),
        after=phase(0.05 * factor, 4, 0.001 * factor),
        users=found.users,
        ends=found.ends,
    )
    assert judged(slow).passed
    slow.load = phase(2 * factor, 25, length=10 * factor)
    assert not judged(slow).passed


def wrong_answer(found: Raw) -> None:
    found.load.book.of("chat", "a").failed(Permanent("wrong_answer", "no"))


def refusal(found: Raw) -> None:
    found.load.book.of("chat", "a").failed(Transient("refused", "503 queue_full"))


def wrong_floor(found: Raw) -> None:
    found.after.book.of("chat", "a").failed(Permanent("wrong_answer", "no"))


def two_ends(found: Raw) -> None:
    found.ends = Ends(watched=True, tasks=1, faults=("t1 has 2 ends in the log",))


def crash(found: Raw) -> None:
    found.crashes = ("KeyError (3 times)",)


def slow_median(found: Raw) -> None:
    found.load = phase(2.0, 25, length=10)


def slow_tail(found: Raw) -> None:
    for seconds in [4.0] * 4:
        found.load.book.of("chat", "a").times.add(seconds)


def nothing_done(found: Raw) -> None:
    del found.load.book.figures["chat"]


def standstill(found: Raw) -> None:
    found.load.seconds = 300.0


def unfair(found: Raw) -> None:
    for figures in (found.load.book.of(name, "a") for name in PROFILE.mix):
        figures.times.total *= 4


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (wrong_answer, "failed"),
        (refusal, "refused"),
        (wrong_floor, "floor"),
        (two_ends, "ends"),
        (crash, "crash"),
        (slow_median, "median"),
        (slow_tail, "tail"),
        (nothing_done, "idle"),
        (standstill, "gain"),
        (unfair, "spread"),
    ],
)
def test_each_rule_can_be_broken(spoil: Callable[[Raw], None], rule: str) -> None:
    found = raw()
    spoil(found)
    result = judged(found)
    assert not result.passed
    assert rule in rules(result.breaches)


def test_a_profile_may_allow_refusals() -> None:
    found = raw()
    refusal(found)
    profile = msgspec.structs.replace(PROFILE, limits=Limits(refused=0.1))
    assert judged(found, profile).passed


def test_why_something_failed_is_told_with_how_often() -> None:
    found = raw()
    for _ in range(3):
        wrong_answer(found)
    wrong_floor(found)
    reason = judged(found).reasons[0]
    assert (reason.operation, reason.reason, reason.count) == ("chat", "wrong_answer: no", 4)


def test_a_busy_client_an_uneven_machine_and_no_broker_are_notes() -> None:
    found = raw()
    found.load.cpu, found.ends = 9.0, Ends()
    found.before.bare.http = phase(0.1, 1, bare=0.1).bare.http
    result = judged(found)
    assert result.passed
    assert len(result.notes) == 3


def baseline() -> Baseline:
    return baseline_of(judged())


def test_a_run_like_its_baseline_passes() -> None:
    assert judge(raw(), PROFILE, setting(), baseline()).passed


def test_a_run_that_is_much_worse_than_its_baseline_says_how_much() -> None:
    better = msgspec.structs.replace(baseline(), stretch=0.5)
    result = judge(raw(), PROFILE, setting(), better)
    assert not result.passed
    (breach,) = result.breaches
    assert (breach.rule, breach.where) == ("baseline", "all")
    assert breach.value == pytest.approx(8, rel=0.03)
    assert breach.text.startswith("times worse than the baseline's stretch (0.50, now ")


def test_another_load_or_machine_is_not_compared() -> None:
    better = msgspec.structs.replace(baseline(), stretch=0.5)
    result = judge(raw(), PROFILE, setting(cores=64, users=9), better)
    assert result.passed
    assert result.notes == ("not compared with the baseline, which had users 4, cores 2",)


def test_a_baseline_is_kept_and_read(tmp_path: Path) -> None:
    assert read_baseline("short", tmp_path) is None
    write_baseline(baseline(), tmp_path)
    assert read_baseline("short", tmp_path) == baseline()


def test_a_spoilt_baseline_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "short.json").write_text("{}")
    with pytest.raises(Permanent, match="invalid_baseline"):
        read_baseline("short", tmp_path)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_a_baseline_of_the_repository_is_of_the_profile_as_it_is(name: str) -> None:
    found, profile = read_baseline(name), PROFILES[name]
    assert found is not None
    assert (found.profile, found.users) == (name, profile.users)
    assert (found.mix, found.tenants) == (profile.mix, profile.tenants)
    assert found.gain
    assert found.stretch
