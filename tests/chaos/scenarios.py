"""The scenarios by name: which broker, which faults, how many tasks, and the bound for the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.chaos import faults
from tests.chaos.faults import Faults

BrokerKind = Literal["one", "small-disk", "cluster"]


@dataclass(frozen=True)
class Scenario:
    """`within` seconds after its last fault every task has ended."""

    name: str
    faults: Faults
    tasks: int
    spread: float
    broker: BrokerKind = "one"
    within: float = 60.0
    words: tuple[int, int] = (8, 40)
    stalling: bool = False


SCENARIOS = (
    Scenario("kill-services", faults.kill_services, 30, 12.0),
    Scenario("kill-workers", faults.kill_workers, 30, 12.0),
    Scenario("kill-random", faults.kill_some, 30, 14.0),
    Scenario("broker", faults.kill_broker, 30, 15.0),
    Scenario("freeze", faults.freeze, 30, 18.0),
    Scenario("drain", faults.drain_each, 30, 15.0),
    Scenario("repeat", faults.repeat_messages, 30, 11.0),
    Scenario("deaf", faults.stop_reading, 24, 10.0, words=(200, 600), stalling=True),
    Scenario("clocks", faults.set_clocks, 24, 9.0),
    Scenario("everything", faults.everything, 40, 24.0, within=90.0),
    Scenario("disk", faults.fill_disk, 30, 24.0, broker="small-disk"),
    Scenario("cluster", faults.kill_nodes, 50, 38.0, broker="cluster", within=90.0),
)
SHORT = ("kill-services", "clocks")
"""What `make test` runs, with fewer tasks."""
