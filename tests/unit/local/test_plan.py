"""Programs, their environment, and when they are restarted and stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local import plan
from infra.local.plan import Program
from infra.local.programs import programs
from infra.local.settings import LocalSettings
from shared.errors import Permanent
from shared.models import OpenVinoModel, ProviderModel


def test_restart_delays_grow_and_are_bounded() -> None:
    delays = [plan.restart_delay(n) for n in range(1, 40)]
    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert delays == sorted(delays)
    assert delays[-1] == 10.0


@pytest.mark.parametrize(("ran", "expected"), [(0.1, 4), (19.9, 4), (20.0, 1), (9_999.0, 1)])
def test_a_program_that_ran_long_enough_starts_counting_again(ran: float, expected: int) -> None:
    assert plan.failures_after(3, ran) == expected


def test_our_values_win_over_the_inherited_environment() -> None:
    env = plan.service_environment({"A": "1", "B": "2"}, {"B": "3"}, Path("/repo"))
    assert (env["A"], env["B"], env["PYTHONPATH"]) == ("1", "3", "/repo")
    assert env["PYTHONUNBUFFERED"] == "1"


def test_the_edge_stops_first_and_the_broker_last() -> None:
    programs = (Program("nats", ("x",), stage=2), *plan.service_programs("python", {}))
    stages = plan.stop_stages(programs)
    assert stages[0] == ["ingress"]
    assert stages[-1] == ["nats"]
    assert sorted(stages[1]) == ["inference", "ledger", "retrieval", "router", "sessions", "tools"]


def test_every_service_is_a_module_run_by_the_given_python() -> None:
    programs = {p.name: p.argv for p in plan.service_programs("/venv/python", {})}
    assert programs["router"] == ("/venv/python", "-m", "services.router")
    assert set(programs) == set(plan.SERVICES)


def test_replicas_are_programs_of_their_own() -> None:
    counts = plan.read_replicas(" sessions=2, ingress = 3 ")
    assert counts == {"sessions": 2, "ingress": 3}
    names = plan.program_names(counts)
    assert names[:3] == ("sessions", "sessions-2", "router")
    assert names[-3:] == ("ingress", "ingress-2", "ingress-3")
    settings = LocalSettings(http_port=9000, model="nano")
    programs = plan.service_programs("python", {"A": "1"}, counts, settings.for_replica)
    assert tuple(program.name for program in programs) == names
    by_name = {program.name: program for program in programs}
    assert by_name["ingress-3"].environment == {"A": "1", "MILLRACE_HTTP_PORT": "9002"}
    assert by_name["ingress-3"].stage == by_name["ingress"].stage
    assert by_name["sessions-2"].argv == by_name["sessions"].argv


def test_a_second_worker_has_a_name_of_its_own() -> None:
    unnamed, named = LocalSettings(model="m"), LocalSettings(worker_id="left")
    assert unnamed.for_replica("inference", 1) == {}
    assert unnamed.for_replica("inference", 2) == {"MILLRACE_WORKER_ID": "m-1"}
    assert named.for_replica("inference", 2) == {"MILLRACE_WORKER_ID": "left-2"}


@pytest.mark.parametrize("text", ["sessions", "sessions=0", "tools=17", "web=2", "tools=two", "="])
def test_replicas_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(Permanent) as caught:
        plan.read_replicas(text)
    assert (caught.value.code, caught.value.field) == ("invalid_setting", "MILLRACE_REPLICAS")


def test_exit_codes_in_words() -> None:
    assert plan.exit_reason(-9) == "killed by signal 9"
    assert plan.exit_reason(3) == "ended with code 3"


ROWS = {
    "nano": OpenVinoModel(path="x"),
    "gpt": ProviderModel(name="gpt-5"),
    "odd/name": ProviderModel(name="n", base_url="http://there/v1"),
}


def test_each_hosted_model_has_a_worker_unless_it_is_the_one_that_is_served() -> None:
    assert list(plan.hosted_models(ROWS, "nano")) == ["gpt", "odd/name"]
    assert list(plan.hosted_models(ROWS, "gpt")) == ["odd/name"]
    gpt, odd = map(plan.worker_name, plan.hosted_models(ROWS, "nano"))
    assert gpt == "worker-gpt"
    assert "/" not in odd
    own = {"gpt": {"KEY": "k"}, "odd/name": {}}
    programs = plan.hosted_programs("python", {"A": "1"}, own)
    assert [program.name for program in programs] == [gpt, odd]
    assert programs[0].argv == ("python", "-m", "services.inference")
    assert programs[0].environment == {"A": "1", "KEY": "k", "MILLRACE_MODEL": "gpt"}
    assert programs[1].environment == {"A": "1", "MILLRACE_MODEL": "odd/name"}


def test_a_hosted_worker_has_a_name_of_its_own() -> None:
    assert LocalSettings().for_hosted("gpt") == {"MILLRACE_WORKER_ID": "gpt-0"}
    assert LocalSettings(worker_id="left").for_hosted("gpt") == {"MILLRACE_WORKER_ID": "left-gpt"}


def test_a_key_is_for_the_worker_of_its_endpoint_alone(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(
        """
models:
  gpt: {engine: provider, name: n}
  other: {engine: provider, name: n, key: OTHER_KEY}
  served: {engine: provider, name: n, key: SERVED_KEY}
routes: {default: [gpt]}
"""
    )
    settings = LocalSettings(models=tmp_path / "models.yaml", model="served")
    keys = {"OPENAI_API_KEY": "a", "OTHER_KEY": "b", "SERVED_KEY": "c"}
    found = programs(settings, {"PATH": "p", **keys})
    held = {p.name: {name for name in keys if name in p.environment} for p in found.services}
    assert {name: found for name, found in held.items() if found} == {
        "worker-gpt": {"OPENAI_API_KEY"},
        "worker-other": {"OTHER_KEY"},
        "inference": {"SERVED_KEY"},
    }
    assert found.names == (*plan.SERVICES, "worker-gpt", "worker-other")
    assert all(program.environment["PATH"] == "p" for program in found.services)
    assert found.common["PATH"] == "p"
    assert not set(keys) & set(found.common)


@pytest.mark.parametrize(("endpoint", "runs"), [("http://127.0.0.1:4318", True), ("", False)])
def test_traces_are_sent_where_there_is_somewhere_to_send_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint: str, runs: bool
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    found = programs(LocalSettings(data=tmp_path), {"PATH": "p"})
    assert ("tracing" in found.names) is runs
