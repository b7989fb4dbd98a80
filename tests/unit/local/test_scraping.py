"""A port for each process, and the file that tells Prometheus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.local import scraping
from infra.local.plan import SERVICES, Program
from infra.local.programs import programs
from infra.local.settings import LocalSettings
from shared.errors import Permanent
from shared.settings import Place

NAMES = ("sessions", "sessions-2", "worker-gpt")


def test_free_ports_are_different() -> None:
    found = scraping.ports_of(Place(), NAMES)
    assert tuple(found) == NAMES
    assert len(set(found.values())) == 3


def test_a_port_that_is_set_is_the_first_ones() -> None:
    found = scraping.ports_of(Place(port=9400), NAMES)
    assert found == {"sessions": 9400, "sessions-2": 9401, "worker-gpt": 9402}


def test_off_is_none() -> None:
    assert scraping.ports_of(Place(port="off"), NAMES) == {}


@pytest.mark.parametrize("place", [Place(port=65534), Place(host="192.0.2.1")])
def test_what_cannot_be_is_refused_by_name(place: Place) -> None:
    with pytest.raises(Permanent) as caught:
        scraping.ports_of(place, NAMES)
    assert caught.value.code == "invalid_setting"
    assert str(caught.value.field).startswith("MILLRACE_METRICS_")


def test_a_program_is_of_the_service_whose_module_it_runs() -> None:
    runs = {"sessions-2": "sessions", "worker-gpt-4": "inference", "unseen": "tools"}
    found = [Program(name, ("python", "-m", f"services.{one}")) for name, one in runs.items()]
    assert scraping.targets_of(found, {"sessions-2": 1, "worker-gpt-4": 2}) == (
        scraping.Target("sessions-2", "sessions", 1),
        scraping.Target("worker-gpt-4", "inference", 2),
    )


def test_each_program_is_told_its_own_port_whatever_was_inherited() -> None:
    inherited = {"MILLRACE_METRICS_PORT": "1"}
    one, two = scraping.with_ports(
        [Program("a", ("x",), inherited), Program("b", ("x",), inherited)], "127.0.0.1", {"a": 5}
    )
    assert one.environment["MILLRACE_METRICS_PORT"] == "5"
    assert two.environment["MILLRACE_METRICS_PORT"] == "off"
    assert one.environment["MILLRACE_METRICS_HOST"] == "127.0.0.1"


def test_the_targets_are_named_by_their_programs(tmp_path: Path) -> None:
    scraping.write_targets(tmp_path, "::1", [scraping.Target("sessions-2", "sessions", 9401)])
    assert json.loads((tmp_path / scraping.TARGETS_FILE).read_bytes()) == [
        {
            "targets": ["[::1]:9401"],
            "labels": {"service": "sessions", "instance": "sessions-2"},
        }
    ]


def test_a_system_that_shows_nothing_leaves_no_targets_of_the_one_before(tmp_path: Path) -> None:
    scraping.write_targets(tmp_path, "127.0.0.1", [scraping.Target("tools", "tools", 9401)])
    scraping.write_targets(tmp_path, "127.0.0.1", [])
    assert not list(tmp_path.iterdir())


def test_every_program_of_a_system_has_a_port() -> None:
    found = programs(LocalSettings(replicas="tools=2", metrics_port=9400), {})
    assert [one.name for one in found.metrics] == list(found.names)
    assert {one.service for one in found.metrics} == set(SERVICES)
    ports = [one.environment["MILLRACE_METRICS_PORT"] for one in found.services]
    assert ports == [str(9400 + n) for n in range(len(found.services))]
