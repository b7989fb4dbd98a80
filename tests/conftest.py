"""How thorough the property tests are: `--hypothesis-profile=thorough` for a long look; and which
tests stay together when several processes run them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
settings.load_profile("default")

SHARED_SYSTEMS = ("system", "fronts")
"""Fixtures that start a whole system once: what uses one of them stays in one process."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests of a file stay together (its fixtures are made once), those of a system too."""
    groups: dict[Path, str] = {}
    for item in items:
        used = [name for name in SHARED_SYSTEMS if name in getattr(item, "fixturenames", ())]
        if "e2e" in item.path.parts and used:
            groups[item.path] = used[0]
    for item in items:
        own = str(item.path.relative_to(config.rootpath))
        item.add_marker(pytest.mark.xdist_group(groups.get(item.path, own)))
