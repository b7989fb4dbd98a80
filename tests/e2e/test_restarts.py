"""The supervisor at work on the real services: whatever is killed comes back and is ready again."""

from __future__ import annotations

import pytest

from tests.e2e.running import System

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["ingress", "router", "nats"])
def test_a_killed_program_comes_back_and_the_system_is_ready(system: System, name: str) -> None:
    others = {other: system.pid_of(other) for other in ("tools", "ledger")}
    killed = system.kill(name)
    system.await_restart(name, killed)
    system.await_ready()
    assert {other: system.pid_of(other) for other in others} == others
