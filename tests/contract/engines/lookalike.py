"""The look-alike of TensorRT-LLM, on the path of this process, and engines made on it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FAKES = Path(__file__).resolve().parents[2] / "fakes"


@contextmanager
def lookalike() -> Iterator[Any]:
    """`tensorrt_llm` is the look-alike, its rank a thread of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FAKES)
        patch.setenv("TLLM_WORKER_USE_SINGLE_PROCESS", "1")
        yield importlib.import_module("tensorrt_llm")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorrt_llm"]:
        del sys.modules[name]


def latest() -> Any:
    """The `LLM` that was built last."""
    return importlib.import_module("tensorrt_llm.llmapi.llm").BUILT[-1]


def turn(fault: str) -> None:
    """Make the next step of that one go wrong: `fail`, `fatal` or `hang`."""
    latest().rank.turn(fault)
