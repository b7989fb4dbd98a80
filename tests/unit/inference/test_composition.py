"""Which model a worker serves, as its settings and the models file have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.inference.__main__ import row_of
from services.inference.settings import Settings
from shared.errors import Permanent
from shared.models import OpenVinoModel

MODELS = """
models:
  one: {engine: openvino, path: some/where, concurrency: 3}
  two: {engine: openvino, path: else/where}
routes: {default: [one]}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    file = tmp_path / "models.yaml"
    file.write_text(MODELS)
    return file


def test_the_row_of_the_model_is_taken(models: Path) -> None:
    row = row_of(Settings(models=models, model="one"))
    assert row == OpenVinoModel(path="some/where", concurrency=3)


def test_an_unknown_model_is_refused_with_those_that_there_are(models: Path) -> None:
    with pytest.raises(Permanent) as refused:
        row_of(Settings(models=models, model="default"))
    assert (refused.value.code, refused.value.field) == ("unknown_model", "MILLRACE_MODEL")
    assert "one, two" in refused.value.detail
