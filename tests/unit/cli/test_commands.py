"""The commands over a fake system: what they print, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from services.cli.core.checks import Check
from shared.contracts.agents import LimitsPatch
from shared.contracts.facts import Usage
from shared.contracts.ledger import TasksReply, TaskSummary, UsageReply, UsageSummary
from shared.contracts.workers import WorkerState
from shared.errors import Transient
from tests.fakes.ledger_log import START, Recorder
from tests.unit.cli.conftest import Cli, Launched

ROW = UsageSummary(
    key="2026-09-21", calls=2, usage=Usage(input=200, cached=128, output=20), price=3_000
)


def test_run_shows_the_steps_and_prints_the_answer(cli: Cli) -> None:
    outcome = cli("run", "What is 17 * 23?")
    assert outcome.code == 0
    assert outcome.out == "It is 391.\n"
    assert 'calculator(expression="17 * 23")  391  3.0 ms' in outcome.err
    assert "completed in" in outcome.err
    assert cli.system.asked == [("assistant", "What is 17 * 23?", None, None)]


def test_run_as_json_is_one_document_on_standard_output(cli: Cli) -> None:
    outcome = cli("run", "17 * 23?", "--json", "--session", "s1", "--limits", "steps=3,seconds=9")
    assert outcome.json()["result"]["status"] == "completed"
    assert outcome.err == ""
    assert cli.system.asked[0][2:] == ("s1", LimitsPatch(max_steps=3, deadline_s=9.0))


def test_run_without_following_says_where_to_look(cli: Cli) -> None:
    assert cli("run", "q", "--no-follow", "--json").json() == {"task": "t1", "session": "s1"}
    assert cli("run", "q", "--no-follow").out == "task t1 in session s1\n"


def test_a_wrong_limit_is_wrong_usage(cli: Cli) -> None:
    outcome = cli("run", "q", "--limits", "stepz=1")
    assert outcome.code == 2
    assert "steps=N" in outcome.err
    assert not cli.system.asked


def test_ctrl_c_asks_once_and_cancels(cli: Cli) -> None:
    cli.system.hangs, cli.terminal.presses = True, 1
    outcome = cli("run", "q")
    assert outcome.code == 1
    assert len(cli.terminal.questions) == 1
    assert cli.system.cancelled == [("t1", "cli")]
    assert "cancelled in" in outcome.err


def test_a_second_ctrl_c_leaves_the_task_alone(cli: Cli) -> None:
    cli.system.hangs, cli.terminal.presses, cli.terminal.says_yes = True, 2, False
    outcome = cli("run", "q")
    assert outcome.code == 1
    assert cli.system.cancelled == []
    assert "millrace show t1 --session s1" in outcome.err


def test_chat_keeps_its_session(cli: Cli) -> None:
    cli.terminal.lines = ["17 * 23?\n", "\n", "and again?\n"]
    outcome = cli("chat")
    assert outcome.code == 0
    assert [asked[1:3] for asked in cli.system.asked] == [("17 * 23?", None), ("and again?", "s1")]
    assert outcome.out == "It is 391.\nIt is 391.\n"


def test_tasks_come_from_the_ledger(cli: Cli) -> None:
    task = TaskSummary(
        task="t1", session="s1", agent="assistant", status="completed", sequence=1,
        submitted=START, done=START + 0.084, steps=3, price=3_000, output="It is 391.",
    )  # fmt: skip
    cli.system.ledger = TasksReply(tasks=(task,), sequence=6)
    outcome = cli("tasks")
    assert "t1" in outcome.out
    assert "1 m ago" in outcome.out
    assert "84 ms" in outcome.out
    assert cli("tasks", "--json").json()[0]["task"] == "t1"


def test_tasks_without_a_ledger_point_at_the_log(cli: Cli) -> None:
    outcome = cli("tasks")
    assert outcome.code == 1
    assert "millrace logs SESSION" in outcome.err


def test_show_draws_the_waterfall_from_the_log(cli: Cli) -> None:
    outcome = cli("show", "t1")
    assert outcome.code == 0
    assert "● nano" in outcome.out
    assert "⚙ calculator" in outcome.out
    assert "84 ms in all, 2.0 ms queued · 3 steps" in outcome.out
    assert "Millrace 2.0 ms a step (p50)" in outcome.out
    shown = cli("show", "t1", "--session", "s1", "--json").json()
    assert f"trace {shown['timeline']['trace_id']}" in outcome.out
    assert len(shown["timeline"]["trace_id"]) == 32
    assert shown["overhead_p50_ms"] == pytest.approx(2.0, abs=0.01)
    assert [row["step"] for row in shown["timeline"]["rows"]] == [0, 1, 2]


def test_show_of_an_unknown_task_fails_in_one_line(cli: Cli) -> None:
    outcome = cli("show", "t9")
    assert outcome.code == 1
    assert outcome.err.startswith("millrace: unknown_task: no task 't9' is known; a queued one")
    assert outcome.err.count("\n") == 1
    assert cli("show", "t9", "--session", "s1").code == 1


def test_show_finds_a_queued_task_through_the_ledger(cli: Cli, recorded: Recorder) -> None:
    recorded.submit("t2", 1.0)
    cli.system.unaccepted = {"t2"}
    cli.system.ledger = TasksReply(
        tasks=(
            TaskSummary(
                task="t2", session="s1", agent="assistant", status="queued",
                sequence=7, submitted=START + 1,
            ),
        )
    )  # fmt: skip
    assert "t2  queued" in cli("show", "t2").out


def test_logs_print_a_line_per_fact(cli: Cli) -> None:
    lines = cli("logs", "s1").out.splitlines()
    assert len(lines) == 6
    assert lines[0].split()[0] == "1"
    assert "→ 17 * 23?" in lines[0]
    assert len(cli("logs", "s1", "--from", "5").out.splitlines()) == 2
    assert len(cli("logs", "s1", "--from", "5", "--follow", "--json").out.splitlines()) == 2


def test_usage_sums_up(cli: Cli) -> None:
    total = UsageSummary(key="total", calls=2, usage=ROW.usage, price=3_000)
    cli.system.used = UsageReply(rows=(ROW,), total=total, sequence=6)
    outcome = cli("usage", "--by", "day")
    assert "2026-09-21" in outcome.out
    assert "$0.00003" in outcome.out
    assert cli("usage", "--json").json()["total"]["price"] == 3_000
    assert cli("usage", "--by", "moon").code == 2


def test_documents_are_added_listed_found_and_removed(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "handbook"
    (folder / "rules").mkdir(parents=True)
    (folder / "rules" / "travel.md").write_text("trains before planes")
    (folder / "ignored.pdf").write_bytes(b"%PDF")
    (folder / "a.txt").write_text("alpha")
    added = cli("docs", "add", str(folder), "--json").json()
    assert added == {"documents": 2, "sequence": 2, "skipped": []}
    assert cli("docs", "ls", "--json").json() == ["a.txt", "rules/travel.md"]
    assert "rules/travel.md" in cli("docs", "search", "trains").out
    assert cli("docs", "rm", "a.txt", "nothing", "--json").code == 1
    assert cli("docs", "ls", "--json").json() == ["rules/travel.md"]


def test_a_file_that_is_no_text_is_skipped_and_fails(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "b.md"
    path.write_bytes(b"\xff\xfe\x00")
    outcome = cli("docs", "add", str(path), "--json")
    assert outcome.code == 1
    assert outcome.json() == {"documents": 0, "sequence": 0, "skipped": [str(path)]}


def test_a_path_without_documents_is_wrong_usage(cli: Cli, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert cli("docs", "add", str(empty)).code == 2
    assert cli("docs", "add", str(tmp_path / "nowhere")).code == 2


def test_workers_and_models(cli: Cli) -> None:
    assert "no live worker" in cli("workers").err
    cli.system.alive = [
        WorkerState(worker="w1", model="nano", engine="openvino", slots=4, context=2048),
        WorkerState(worker="w2", model="nano", engine="openvino", slots=4, context=1024),
    ]
    assert "w1" in cli("workers").out
    models = cli("models", "--json").json()
    assert models["models"]["nano"]["slots"] == 8
    assert models["agents"]["assistant"] == {"revision": 3, "route": "default"}
    cli.system.alive[0] = replace(cli.system.alive[0], slots=0, out="look at KEY")
    assert "w1 is out of rotation: look at KEY" in cli("workers").err


def test_doctor_fails_with_a_way_to_mend(cli: Cli) -> None:
    cli.probes.found = (Check("ledger", "failed", "not running", "start it"),)
    outcome = cli("doctor")
    assert outcome.code == 1
    assert "fix: start it" in outcome.out
    assert "wrong: ledger" in outcome.out
    assert cli("doctor", "--json").json()["ok"] is False


def test_doctor_is_content_with_warnings(cli: Cli) -> None:
    cli.probes.found = (Check("disk", "warning", "1 GB free", "free some"),)
    outcome = cli("doctor")
    assert outcome.code == 0
    assert "everything is in order" in outcome.out


def test_doctor_looks_at_gpus_alone_when_asked(cli: Cli) -> None:
    cli.probes.found = (Check("ledger", "failed", "not running", "start it"),)
    outcome = cli("doctor", "--gpu")
    assert outcome.code == 1
    assert "no GPU here" in outcome.out
    assert "wrong: gpu" in outcome.out
    assert "ledger" not in outcome.out


def test_up_becomes_the_supervisor(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("--data", str(tmp_path / "d"), "up", "--port", "9000", "--quiet")
    assert isinstance(outcome.exception, Launched)
    assert outcome.exception.arguments == [
        *("--data", str(tmp_path / "d")),
        *("--port", "9000"),
        "--quiet",
    ]


def test_data_and_tenant_choose_the_system(cli: Cli, tmp_path: Path) -> None:
    cli("--data", str(tmp_path / "other"), "--tenant", "acme", "workers")
    place, tenant = cli.seen[0]
    assert (place.data, place.chosen, tenant) == (tmp_path / "other", True, "acme")


def test_a_tenant_that_is_not_named_is_that_of_the_credentials(cli: Cli) -> None:
    cli("workers")
    cli("--tenant", "default", "workers")
    assert [tenant for _, tenant in cli.seen] == [None, "default"]


@pytest.mark.parametrize("code", ["no_broker", "bus_unavailable"])
def test_no_running_system_is_one_line_with_a_way_out(cli: Cli, code: str) -> None:
    cli.refusal = Transient(code, "no running system on .millrace")
    outcome = cli("run", "q")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "make run" in outcome.err
