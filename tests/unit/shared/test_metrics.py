"""Metrics: names, bounds of labels, who exports what, and what a process says of itself."""

from __future__ import annotations

import re
import tomllib

import pytest
from prometheus_client import generate_latest

from infra.local.plan import SERVICES
from infra.local.settings import ROOT
from shared.metrics.catalogue import ALL, TOKENS
from shared.metrics.exporter import STUCK, VERSION, Vital, registry_of
from shared.metrics.kinds import EVERYBODY, MOST, OTHER, AnyMetric, Counter, Gauge, Histogram
from tests.fakes.counted import value

UNBOUNDED = {"session", "task", "step", "worker", "key", "id", "path", "message"}


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_name_says_what_and_in_which_unit(metric: AnyMetric) -> None:
    assert re.fullmatch(r"millrace_[a-z_]+", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert metric.kind != "histogram" or metric.name.endswith("_seconds")
    assert metric.help[0].isupper() or metric.help[0].isdigit()
    assert not metric.help.endswith(".")
    assert metric.of == EVERYBODY or set(metric.of) <= set(SERVICES)
    assert not set(metric.labels) & UNBOUNDED


def test_no_name_is_given_twice() -> None:
    names = [metric.name for metric in ALL]
    assert len(names) == len(set(names)) > 50


def test_a_label_that_others_choose_cannot_fill_the_memory() -> None:
    counter = Counter("test_total", "Test", ("tenant", "kind"), of=EVERYBODY)
    for n in range(MOST + 50):
        counter.add(f"tenant-{n}", "input")
        counter.add(f"tenant-{n}", "output")
    assert value(counter, "tenant-0", "input") == 1
    assert value(counter, f"tenant-{MOST}", "input") == 0
    assert value(counter, OTHER, "input") == value(counter, OTHER, "output") == 50
    [family] = counter.collect()
    assert sum(sample.name == counter.name for sample in family.samples) == 2 * (MOST + 1)


def test_a_gauge_that_is_set_as_a_whole_forgets_the_rest_and_has_room_again() -> None:
    gauge = Gauge("test", "Test", ("queue",), of=EVERYBODY)
    gauge.replace({(f"q{n}",): 1.0 for n in range(MOST)})
    gauge.replace({("q1",): 5.0, ("new",): 7.0})
    [family] = gauge.collect()
    assert {s.labels["queue"]: s.value for s in family.samples} == {"q1": 5.0, "new": 7.0}


def test_what_is_known_is_there_before_anything_happens() -> None:
    counter = Counter("test_total", "Test", ("status",), of=EVERYBODY, known=(("failed",),))
    [family] = counter.collect()
    assert [(s.labels, s.value) for s in family.samples if s.name == counter.name] == [
        ({"status": "failed"}, 0.0)
    ]


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    histogram = Histogram("test_seconds", "Test", of=EVERYBODY)
    histogram.observe(-3.0)
    assert (value(histogram, part="_count"), value(histogram, part="_sum")) == (1, 0)


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram("test_seconds", "Test", ("queue",), of=EVERYBODY, buckets=(0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(seconds, "q")
    [family] = histogram.collect()
    buckets = [s.value for s in family.samples if s.name.endswith("_bucket")]
    assert buckets == [2, 3, 4]
    assert value(histogram, "q", part="_sum") == pytest.approx(7.65)
    assert value(histogram, "q", part="_count") == 4


def test_labels_that_are_forgotten_are_an_error() -> None:
    counter = Counter("test_total", "Test", ("a", "b"), of=EVERYBODY)
    with pytest.raises(ValueError, match="test_total has the labels"):
        counter.add("one")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_exports_its_own_and_what_everybody_does(service: str) -> None:
    text = generate_latest(registry_of(service)).decode()
    found = set(re.findall(r"^# HELP (millrace_\w+)", text, re.MULTILINE))
    wanted = {one.name for one in ALL if one.of == EVERYBODY or service in one.of}
    assert found == wanted
    assert "process_resident_memory_bytes" in text
    assert ("millrace_tokens_total" in found) == (service in TOKENS.of)


def test_the_version_is_that_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_a_process_is_ready_when_it_is_connected_and_has_started() -> None:
    vital = Vital()
    assert "broker" in vital.missing()
    vital.connected = lambda: True
    assert "started" in vital.missing()
    assert vital.readyz()[0].startswith("503")
    vital.present = lambda: True
    assert (vital.missing(), vital.readyz()[0]) == ("", "200 OK")


def test_a_process_whose_loop_does_not_move_is_not_healthy() -> None:
    vital = Vital(beat=100.0)
    assert vital.healthz(100.0 + STUCK)[0] == "200 OK"
    assert vital.healthz(101.0 + STUCK)[0].startswith("503")
