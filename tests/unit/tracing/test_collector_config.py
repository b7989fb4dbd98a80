"""The collector's configuration: what its pipelines name is there, and all of it is used."""

from __future__ import annotations

from typing import Any

import yaml

from infra.local.settings import ROOT

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "infra" / "otel" / "collector.yaml").read_text())


def test_pipelines_name_what_is_there_and_nothing_is_left_over() -> None:
    pipelines = CONFIG["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert {name for one in pipelines for name in one[kind]} == set(CONFIG[kind])
    assert set(CONFIG["service"]["extensions"]) == set(CONFIG["extensions"])


def test_memory_is_limited_before_anything_is_gathered() -> None:
    assert CONFIG["service"]["pipelines"]["traces"]["processors"][0] == "memory_limiter"


def test_it_listens_where_the_services_send_to() -> None:
    assert CONFIG["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
