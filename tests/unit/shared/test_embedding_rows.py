"""Rows of embedding models: what they say, and what cannot stand for each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import Permanent
from shared.models import ModelsFile, read_models

GOOD = """
models:
  nano: {engine: openvino, path: p}
  small: {engine: provider, name: text-embedding-3-small, embeddings: true, dimensions: 1536}
  here: {engine: provider, name: nomic, base_url: "http://a/v1", embeddings: true, space: nomic}
  there:
    {engine: provider, name: nomic-ai/v1, base_url: "http://b/v1", embeddings: true, space: nomic}
routes:
  default: [nano]
  vectors: [here, there]
"""


def read(folder: Path, text: str) -> ModelsFile:
    path = folder / "models.yaml"
    path.write_text(text)
    return read_models(path)


def test_rows_and_routes_say_that_they_embed(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    names = ("nano", "small", "here", "default", "vectors", "nowhere")
    assert [name for name in names if found.embeds(name)] == ["small", "here", "vectors"]


@pytest.mark.parametrize(
    ("right", "wrong", "field"),
    [
        ("[here, there]", "[here, small]", "routes.vectors"),
        ("[here, there]", "[here, nano]", "routes.vectors"),
        ("space: nomic}\n  there:", "space: other}\n  there:", "routes.vectors"),
        ("embeddings: true, dimensions", "dimensions", "models.small.embeddings"),
        ("dimensions: 1536", "api: anthropic", "models.small.embeddings"),
        ("dimensions: 1536", "extra_body: {input: x}", "models.small.extra_body.input"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, right: str, wrong: str, field: str) -> None:
    with pytest.raises(Permanent) as refused:
        read(tmp_path, GOOD.replace(right, wrong))
    assert (refused.value.code, refused.value.field) == ("invalid_models_file", field)


@pytest.mark.parametrize("wrong", ["dimensions: 0", "batch: 4096", "batch_tokens: 0"])
def test_a_number_that_means_nothing_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(Permanent, match="invalid_models_file"):
        read(tmp_path, GOOD.replace("dimensions: 1536", wrong))
