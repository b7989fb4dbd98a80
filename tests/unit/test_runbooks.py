"""Every command, setting and alert that a runbook names exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from services.cli.handlers.application import build

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = sorted((ROOT / "infra" / "runbooks").glob("*.md"))
COMMANDS = [
    (path.name, line)
    for path in RUNBOOKS
    for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)
    for line in block.splitlines()
]


def resolve(words: list[str]) -> None:
    """Walk down the command line as click does, and check the options."""
    command: Any = typer.main.get_command(build())
    while isinstance(command, TyperGroup):
        while words and words[0].startswith("-"):
            assert words[0] in options(command), words[0]
            words = words[2:]
        assert words, f"{command.name} alone is no command"
        assert words[0] in command.commands, f"no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in options(command), f"{command.name} has no {word}"


def options(command: Any) -> set[str]:
    return {name for one in command.params for name in one.opts}


@pytest.mark.parametrize(("runbook", "line"), COMMANDS)
def test_a_command_can_be_given(runbook: str, line: str) -> None:
    words = shlex.split(line)
    if words[0] == ".venv/bin/millrace":
        resolve(words[1:])
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    else:
        assert words[0] in {"tail", "cat", "df", "git", "kill"}, f"{runbook}: {line}"


@pytest.mark.parametrize("wrong", ["backup x --fast", "docs burn", "ledger"])
def test_a_command_that_does_not_exist_is_noticed(wrong: str) -> None:
    with pytest.raises(AssertionError):
        resolve(shlex.split(wrong))


def alerts() -> dict[str, str]:
    """Every alert with its severity."""
    rules = yaml.safe_load((ROOT / "infra" / "prometheus" / "alerts.yml").read_text())
    return {
        rule["alert"]: rule["labels"]["severity"]
        for group in rules["groups"]
        for rule in group["rules"]
    }


def test_the_alerts_exist_and_the_grave_ones_have_a_runbook() -> None:
    text = "".join(path.read_text() for path in RUNBOOKS)
    named = set(re.findall(r"Millrace[A-Z]\w+", text))
    assert named <= set(alerts())
    grave = {name for name, severity in alerts().items() if severity == "critical"}
    assert grave <= named, grave - named


def test_every_runbook_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "infra/runbooks/README.md").read_text()))
    assert linked == {path.name for path in RUNBOOKS} - {"README.md"}
    for path in RUNBOOKS:
        for link in re.findall(r"\]\(([\w-]+\.md)\)", path.read_text()):
            assert (path.parent / link).exists()
