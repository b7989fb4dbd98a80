"""Rows of models on GPUs: what the documents show is read, what is wrong is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.errors import Permanent
from shared.models import TensorRtModel, read_models

ROOT = Path(__file__).resolve().parents[3]
ROW = """
models:
  llama:
    engine: tensorrt_llm
    path: /models/llama
    tensor_parallel: 2
    guided: llguidance
    kv_dtype: fp8
    lora: {path: /models/terse, rank: 8}
    options: {cuda_graph_config: {enable_padding: true}}
routes: {default: [llama]}
"""


def row_of(folder: Path, text: str) -> TensorRtModel:
    (folder / "models.yaml").write_text(text)
    (row,) = read_models(folder / "models.yaml").models.values()
    assert isinstance(row, TensorRtModel)
    return row


def test_a_row_says_what_everybody_sets_and_passes_on_the_rest(tmp_path: Path) -> None:
    row = row_of(tmp_path, ROW)
    assert (row.engine, row.tensor_parallel, row.guided) == ("tensorrt_llm", 2, "llguidance")
    assert row.lora is not None
    assert row.lora.rank == 8
    assert row.options == {"cuda_graph_config": {"enable_padding": True}}


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("path: /models/llama", "paths: /models/llama", "path"),
        ("guided: llguidance", "guided: outlines", "guided"),
        ("tensor_parallel: 2", "tensor_parallel: 0", "tensor_parallel"),
        ("tensor_parallel: 2", "kv_memory: 1.5", "kv_memory"),
        ("tensor_parallel: 2", "tensor_paralel: 2", "tensor_paralel"),
        ("rank: 8", "ranks: 8", "ranks"),
        ("tensor_parallel: 2", "silence_s: 0", "silence_s"),
        ("tensor_parallel: 2", "parser: yaml", "parser"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, hint: str) -> None:
    with pytest.raises(Permanent, match=hint):
        row_of(tmp_path, ROW.replace(old, new))


def test_the_readme_shows_a_row_that_is_one(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (shown,) = [block for block in blocks if "engine: tensorrt_llm" in block]
    assert row_of(tmp_path, f"{shown}routes: {{}}\n").concurrency == 64


def test_the_models_file_shows_a_row_that_is_one(tmp_path: Path) -> None:
    lines = (ROOT / "infra" / "models.yaml").read_text().splitlines()
    start = lines.index("  # llama8b:")
    shown = []
    for line in lines[start:]:
        if not line.startswith("  # "):
            break
        shown.append("  " + line.removeprefix("  # "))
    row = row_of(tmp_path, "\n".join(["models:", *shown, "routes: {}"]))
    assert row.options


def test_every_field_of_a_row_is_explained_beside_the_models() -> None:
    text = (ROOT / "infra" / "models.yaml").read_text()
    fields = TensorRtModel.__struct_fields__
    assert not [name for name in fields if name not in text and name not in _SHARED]


_SHARED = {"kv_events", "parser", "reasoning"}
"""Explained elsewhere, or of no use to nearly everybody."""
