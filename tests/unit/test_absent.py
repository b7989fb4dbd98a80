"""What of a lock file an image still needs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("absent", ROOT / "infra/docker/absent.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCK = """# made by a tool
pytest==9.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
no-such.Package==1.0 \\
    --hash=sha256:cc
"""


def test_what_is_installed_is_left_out(script: ModuleType) -> None:
    assert list(script.absent(LOCK)) == ["no-such.Package==1.0 \\\n    --hash=sha256:cc"]


def test_what_is_to_be_replaced_is_not(script: ModuleType) -> None:
    assert len(list(script.absent(LOCK, ["PyTest"]))) == 2


def test_names_are_compared_as_indexes_do(script: ModuleType) -> None:
    assert script.normal("Foo_Bar.baz") == "foo-bar-baz"


def test_every_entry_of_our_locks_is_read(script: ModuleType) -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        found = list(script.entries(text))
        assert len(found) == text.count("==")
        assert all("--hash=sha256:" in entry for _, entry in found)
