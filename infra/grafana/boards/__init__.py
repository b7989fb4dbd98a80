"""What the dashboards show, one file each."""

from __future__ import annotations

from infra.grafana.boards.broker import BROKER
from infra.grafana.boards.data import DATA
from infra.grafana.boards.http import HTTP
from infra.grafana.boards.inference import INFERENCE
from infra.grafana.boards.loop import LOOP
from infra.grafana.boards.overview import OVERVIEW

BOARDS = (OVERVIEW, LOOP, INFERENCE, HTTP, DATA, BROKER)
"""In the order of their links."""
