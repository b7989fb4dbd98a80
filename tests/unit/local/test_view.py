"""What the terminal shows while the system starts, fails and is ready."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from infra.local.child import Change
from infra.local.folder import open_log
from infra.local.view import Addresses, View, examples

AT = Addresses("http://127.0.0.1:8080", "nats://127.0.0.1:4222", Path("/data"))


def test_every_state_is_one_plain_line_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view = View(("nats", "router"), tmp_path)
    for name in ("nats", "router"):
        view.changed(Change(name, "starting", 7))
        view.changed(Change(name, "running", 7))
    view.ready(missing=("router",))
    assert capsys.readouterr().out.splitlines() == ["… nats", "… router", "✓ nats"]
    view.ready(missing=())
    assert capsys.readouterr().out.splitlines() == ["✓ router"]


def test_a_program_that_does_not_start_shows_the_end_of_its_log_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_log(tmp_path, "router").write_text("no [such] module\n")
    view = View(("router",), tmp_path)
    for count in range(1, 6):
        view.changed(Change("router", "failed", 0, "ended with code 1", count))
    shown = capsys.readouterr().out
    assert shown.count("ended with code 1") == 5
    assert shown.count("no [such] module") == 1


def test_a_restart_is_told_once_the_system_is_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view = View(("router",), tmp_path)
    view.up(AT, 3.21)
    assert "ready after 3.2 s" in capsys.readouterr().out
    view.changed(Change("router", "running", 42))
    assert "router runs again (process 42)" in capsys.readouterr().out


def test_quiet_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    view = View(("router",), tmp_path, quiet=True)
    view.begin()
    view.changed(Change("router", "starting", 7))
    view.up(AT, 1.0)
    view.say("stopped")
    assert capsys.readouterr().out == ""


def test_the_example_to_paste_is_python_that_names_the_token_file_and_not_the_token() -> None:
    text = examples(AT)
    snippet = text.split("<<'END'\n")[1].split("\nEND")[0]
    assert ast.parse(snippet)
    assert '"/data/nats.json"' in snippet
    assert f"curl -s {AT.http}/v1/tasks" in text


def test_with_a_broker_of_ones_own_there_is_no_token_file_to_name() -> None:
    text = examples(Addresses(AT.http, AT.nats, AT.data, embedded=False))
    assert "nats.json" not in text
    assert AT.nats in text
