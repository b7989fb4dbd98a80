"""The real library against the file of signatures that the adapter is written by."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorrt_llm")

SPEC: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "contract" / "trtllm_signatures.json").read_bytes()
)
Names = set[str]


def rated(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {
        entry["name"]: entry.get("confidence_for_1_2", "high")
        for entry in entries
        if not entry["name"].startswith("_")
    }


def module(name: str) -> Any:
    return importlib.import_module(f"tensorrt_llm.{name}")


def of_model(name: str) -> Names:
    return set(getattr(module("llmapi.llm_args"), name).model_fields)


def of_dataclass(where: str, name: str) -> Names:
    return {field.name for field in dataclasses.fields(getattr(module(where), name))}


def of_generate() -> Names:
    return set(inspect.signature(importlib.import_module("tensorrt_llm").LLM.generate_async)
               .parameters)  # fmt: skip


CLASSES = SPEC["classes"]
COMPARED = {
    "TorchLlmArgs": (list(SPEC["llm_constructor"]["fields"].values()),
                     lambda: of_model("TorchLlmArgs")),
    "KvCacheConfig": (CLASSES["KvCacheConfig"]["fields"], lambda: of_model("KvCacheConfig")),
    "generate_async": (SPEC["generate_async"]["parameters"], of_generate),
    "SamplingParams": (CLASSES["SamplingParams"]["fields"],
                       lambda: of_dataclass("sampling_params", "SamplingParams")),
    "GuidedDecodingParams": (CLASSES["GuidedDecodingParams"]["fields"],
                             lambda: of_dataclass("sampling_params", "GuidedDecodingParams")),
    "CompletionOutput": (CLASSES["CompletionOutput"]["fields"],
                         lambda: of_dataclass("executor.result", "CompletionOutput")),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.filterwarnings("default")
def test_what_is_sure_is_there_and_the_rest_is_reported(name: str) -> None:
    entries, real = COMPARED[name]
    known, found = rated(entries), real()
    absent = {one: known[one] for one in known.keys() - found}
    new = sorted(one for one in found - known.keys() if not one.startswith("_"))
    if absent or new:
        warnings.warn(f"{name}: without {absent}, with {new} beside", stacklevel=1)
    assert "high" not in absent.values()


def test_the_adapter_finds_all_that_it_uses() -> None:
    from services.inference.adapters.trtllm.check import installed

    found = installed()
    assert (found.error, found.without) == ("", ())
