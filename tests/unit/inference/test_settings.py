"""Where the worker finds a key that the models file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.inference.settings import variable


def test_the_environment_comes_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THERE_KEY", raising=False)
    assert variable("THERE_KEY") is None
    (tmp_path / ".env").write_text("THERE_KEY=from-$HOME-file\n")
    assert variable("THERE_KEY") == "from-$HOME-file"
    monkeypatch.setenv("THERE_KEY", "from-environment")
    assert variable("THERE_KEY") == "from-environment"
