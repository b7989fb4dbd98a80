"""A system that has worked: every process shows it, and every dashboard has something to show."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.grafana.boards import BOARDS
from infra.local.plan import SERVICES
from infra.local.settings import ROOT, inherited_environment
from infra.prometheus import promql
from infra.prometheus.rules import read_rules
from tests.e2e.running import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
OF_PROMETHEUS = {"up", "ALERTS"}
Labels = dict[str, str]


@pytest.fixture(scope="module")
def worked(system: System) -> System:
    """One task with a tool, one with a search, one that is streamed, one that nobody can do."""
    with httpx.Client(base_url=system.http_url, timeout=60, trust_env=False) as http:
        page = "/v1/collections/default/documents/bikes.md"
        stored = http.put(page, json={"text": "The bicycle shed has 24 places."})
        assert stored.is_success, stored.text
        for question in ("What is 31 * 7?", "How many places does the bicycle shed have?"):
            _ask(system, question)
        chat = {
            "model": "agent:assistant",
            "messages": [{"role": "user", "content": "What is 6 * 7?"}],
            "stream": True,
        }
        assert "42" in _streamed(http.post("/v1/chat/completions", json=chat).text)
        assert http.get("/v1/tasks/nobody").status_code == 404
    return system


def _streamed(text: str) -> str:
    """What the chunks of a streamed answer say together: a number may lie in two of them."""
    chunks = [orjson.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return "".join(one["delta"].get("content") or "" for row in chunks for one in row["choices"])


def _ask(system: System, question: str) -> None:
    body = {"agent": "assistant", "input": question}
    wait = {"Prefer": "wait=50"}
    answer = httpx.post(f"{system.http_url}/v1/tasks", json=body, headers=wait, timeout=60).json()
    assert answer["state"] == "completed", answer


def _targets(system: System) -> dict[str, str]:
    rows = orjson.loads((system.data / "metrics.json").read_bytes())
    return {row["labels"]["instance"]: row["targets"][0] for row in rows}


def _samples(system: System) -> dict[str, list[Labels]]:
    """Metric -> the labels of all its samples, over all processes."""
    found: dict[str, list[Labels]] = {}
    for at in _targets(system).values():
        text = httpx.get(f"http://{at}/metrics", trust_env=False).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_every_process_lives_is_ready_and_is_a_target(worked: System) -> None:
    targets = _targets(worked)
    assert set(targets) == set(SERVICES)
    for name, at in targets.items():
        for path, status in (("healthz", "ok"), ("readyz", "ready")):
            answer = httpx.get(f"http://{at}/{path}", trust_env=False)
            assert (name, answer.json()["status"]) == (name, status)


def test_everything_that_dashboards_and_rules_ask_for_has_a_sample(worked: System) -> None:
    exprs = [query.expr for board in BOARDS for _, query in board.queries()]
    exprs += [rule.expr for rule in read_rules()]
    samples = _samples(worked)
    wanted = {use for expr in exprs for use in promql.read(expr).metrics}
    missing = {
        name
        for name, labels in wanted
        if name not in OF_PROMETHEUS
        and not name.startswith("millrace:")
        and not any(labels <= _with_target(one) for one in samples.get(name, ()))
    }
    assert missing == set()


def _with_target(labels: Labels) -> set[str]:
    return {*labels, "job", "instance", "service"}


def test_nobodys_name_is_a_label(worked: System) -> None:
    values = {
        value for labels in _samples(worked).values() for one in labels for value in one.values()
    }
    assert not [value for value in values if value.startswith(("task_", "ses_", "chatcmpl"))]


def test_the_doctor_has_looked_at_all_of_them(worked: System) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "--data", str(worked.data), "doctor", "--json"],
        cwd=ROOT,
        env=inherited_environment() | {"MILLRACE_HTTP_PORT": str(worked.port)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {one["name"]: one for one in orjson.loads(done.stdout)["checks"]}
    assert found["metrics"]["outcome"] == "ok", found["metrics"]
    assert str(len(SERVICES)) in found["metrics"]["found"]


@pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="no prometheus on this machine (Debian: apt-get install prometheus)",
)
def test_every_query_of_every_dashboard_has_an_answer_while_tasks_run(
    worked: System, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "infra.grafana", "check", "--json", "--seconds", "4"]
    out = tmp_path / "found.json"  # more than a pipe holds while nobody reads it
    with (
        out.open("wb") as told,
        subprocess.Popen([*command, "--data", str(worked.data)], cwd=ROOT, stdout=told) as checking,
    ):
        while checking.poll() is None:
            _ask(worked, "What is 31 * 7?")
    found = orjson.loads(out.read_bytes())
    assert (checking.returncode, found["failing_rules"]) == (0, []), [
        one for one in found["queries"] if one["outcome"] in ("nothing", "error")
    ]
    highest = {one["panel"]: one["highest"] for one in found["queries"]}
    for panel in ("Tasks per second", "Steps per second", "Tokens per second", "Model calls"):
        assert highest[panel] > 0, panel
    assert (highest["Processes up"], highest["Partitions by owner"]) == (len(SERVICES), 16)
