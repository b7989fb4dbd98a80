"""What the files beside the code promise: locks, services, agents, models."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from shared.contracts.agents import AgentSpec
from shared.contracts.base import TOKEN
from shared.models import read_models

ROOT = Path(__file__).resolve().parents[2]
AGENTS = sorted((ROOT / "infra" / "agents").glob("*.yaml"))
BUILT_IN = {"calculator", "search_knowledge", "current_time", "remember", "recall"}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_locked_package_is_pinned_and_hashed(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) > 20
    assert not [line for line in lines if not re.match(r"\S+==\S+( ; .*?)? +--hash=sha256:", line)]


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*")), ids=lambda path: path.name)
def test_no_file_names_a_package_index(path: Path) -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links", path.read_text())


def test_the_run_time_lock_holds_no_tools_and_no_torch() -> None:
    names = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert not names & {"torch", "pytest", "mypy", "ruff", "transformers"}


@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_an_agent_file_is_an_agent(path: Path) -> None:
    found = msgspec.convert(yaml.safe_load(path.read_text()), AgentSpec)
    known = {field.name for field in msgspec.structs.fields(AgentSpec)}
    assert set(yaml.safe_load(path.read_text())) <= known
    assert found.name == path.stem
    assert TOKEN.fullmatch(found.name)
    assert set(found.tools) <= BUILT_IN


def test_the_default_agent_has_every_built_in_tool() -> None:
    found = yaml.safe_load((ROOT / "infra" / "agents" / "assistant.yaml").read_text())
    assert set(found["tools"]) == BUILT_IN


def test_every_route_leads_to_a_model_of_the_file() -> None:
    found = read_models(ROOT / "infra" / "models.yaml")
    assert {"default", "fast", "deep"} <= set(found.routes)
    assert all(model in found.models for route in found.routes.values() for model in route)


def test_the_threat_model_names_tests_that_exist() -> None:
    text = next((ROOT / "infra" / "adr").glob("0046-*.md")).read_text()
    named = re.findall(r"`([a-z0-9_/]+\.py)`", text)
    assert len(named) > 10
    found = {path.as_posix() for path in (ROOT / "tests").rglob("*.py")}
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in found)]
