"""Every name of tensorrt_llm that the adapter uses is one that the signatures of 1.2 have."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from llguidance import LLMatcher

from services.inference.adapters.trtllm import library, names
from services.inference.adapters.trtllm.arguments import llm_arguments
from services.inference.adapters.trtllm.guided import for_xgrammar
from services.inference.adapters.trtllm.sampling import sampling_fields
from services.inference.core.demands import CallShape, Constraint, Reasoning
from services.inference.core.structural import TAGGED
from services.inference.ports import GenerateRequest, Sampling
from shared.models import Adapter, TensorRtModel

SPEC: dict[str, Any] = json.loads(Path(__file__).with_name("trtllm_signatures.json").read_bytes())
CLASSES = SPEC["classes"]
PACKAGE = Path(library.__file__).parent
CALL = CallShape("add", '{"type": "object"}')


def fields(name: str) -> dict[str, str]:
    """The fields of a class and how sure they are; what nobody rated is long-standing."""
    return {
        entry["name"]: entry.get("confidence_for_1_2", "medium")
        for entry in CLASSES[name]["fields"]
    }


CONSTRUCTOR = {
    name: entry["confidence_for_1_2"] for name, entry in SPEC["llm_constructor"]["fields"].items()
}
GENERATE = {
    entry["name"]: entry.get("confidence_for_1_2", "high")
    for entry in SPEC["generate_async"]["parameters"]
}


@pytest.mark.parametrize(
    ("used", "known"),
    [
        (names.LLM, CONSTRUCTOR),
        (names.KV_CACHE, fields("KvCacheConfig")),
        (names.GENERATE, GENERATE),
    ],
)
def test_what_is_used_unasked_is_sure_to_be_there(
    used: frozenset[str], known: dict[str, str]
) -> None:
    assert {name: known.get(name) for name in used} == dict.fromkeys(used, "high")


@pytest.mark.parametrize(
    ("used", "known"),
    [
        (names.OPTIONAL_KV_CACHE, fields("KvCacheConfig")),
        (names.OPTIONAL_GENERATE | {names.SALT}, GENERATE),
        (names.SAMPLING, fields("SamplingParams")),
        (names.GUIDED, fields("GuidedDecodingParams")),
        ({names.PENALTY_SAMPLER[0]}, CONSTRUCTOR),
    ],
)
def test_everything_else_is_known_too(used: frozenset[str], known: dict[str, str]) -> None:
    assert used <= known.keys()


def test_no_name_is_used_that_is_only_in_later_versions() -> None:
    for used, known in (
        (names.SAMPLING, fields("SamplingParams")),
        (names.GUIDED, fields("GuidedDecodingParams")),
    ):
        assert not {name for name in used if known[name] == "probe"}


def every_row() -> TensorRtModel:
    return TensorRtModel(
        path="/models/m",
        expert_parallel=2,
        host_cache_gib=8,
        kv_dtype="fp8",
        lora=Adapter("/models/a"),
    )


def known_library() -> library.Library:
    """A library that has all that 1.2 may have."""
    return library.Library(
        version="1.2.1",
        llm=lambda **_: None,  # type: ignore[arg-type, return-value]
        sampling_params=dict,
        guided_params=dict,
        request_error=RuntimeError,
        llm_fields=frozenset(CONSTRUCTOR),
        kv_fields=frozenset(fields("KvCacheConfig")),
        keywords=frozenset(GENERATE),
        retention=None,
        lora_request=None,
    )


def test_the_constructor_gets_what_the_table_says() -> None:
    made = llm_arguments(every_row(), known_library())
    cache = made["kv_cache_config"]
    assert isinstance(cache, dict)
    assert made.keys() == names.LLM
    assert cache.keys() == names.KV_CACHE | names.OPTIONAL_KV_CACHE


def test_a_request_gets_what_the_table_says() -> None:
    warm = Sampling(seed=1, frequency_penalty=1, presence_penalty=1, logit_bias=((3, 1.0),))
    request = GenerateRequest(request_id="a", prompt=(1,), max_tokens=2, sampling=warm, logprobs=2)
    assert sampling_fields(request, 2, 9).keys() | {"guided_decoding"} == names.SAMPLING
    constraints = (Constraint(value="{}"), Constraint(calls=(CALL,)))
    assert {key for one in constraints for key in for_xgrammar(one)} | {"grammar"} == names.GUIDED


FORMS = {
    entry["default"][1:-1]: {field["name"] for field in form}
    for form in SPEC["xgrammar"]["structural_tag_0_1_25"].values()
    for entry in form
    if entry["name"] == "type"
}


def forms_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every part of a structural tag, but not what is inside of a schema."""
    if isinstance(value, list):
        for one in value:
            yield from forms_in(one)
    elif isinstance(value, dict):
        yield value
        for key, inner in value.items():
            if key != "json_schema":
                yield from forms_in(inner)


@pytest.mark.parametrize("markup", sorted(TAGGED))
@pytest.mark.parametrize("reasoning", [None, Reasoning("<think>", "</think>")])
def test_structural_tags_are_made_of_forms_that_xgrammar_has(
    markup: str, reasoning: Reasoning | None
) -> None:
    for shape in ({}, {"value": "{}"}, {"text": True}, {"once": True}):
        asked = Constraint(calls=(CALL,), markup=markup, reasoning=reasoning, **shape)
        tag = json.loads(str(for_xgrammar(asked)["structural_tag"]))
        for form in forms_in(tag):
            assert form.keys() <= FORMS[form["type"]]


def known_attributes(*classes: str) -> set[str]:
    found: set[str] = set()
    for name in classes:
        about = CLASSES[name]
        found |= {entry["name"] for entry in about.get("fields", ())}
        found |= {*about.get("methods", ()), *about.get("properties", ())}
        found |= set(about.get("instance_attributes") or ())
    return found


@pytest.mark.parametrize(
    ("protocol", "known"),
    [
        (library.Llm, known_attributes("BaseLLM", "LLM")),
        (library.Result, known_attributes("GenerationResult", "GenerationResultBase")),
        (library.Completion, known_attributes("CompletionOutput")),
        (library.Logprob, known_attributes("Logprob")),
        (
            library.RequestMetrics,
            {one.split(".")[0] for one in SPEC["request_perf_metrics"]["attributes"]},
        ),
        (
            library.ReuseMetrics,
            {one.split(".")[-1] for one in SPEC["request_perf_metrics"]["attributes"]},
        ),
    ],
)
def test_what_is_read_of_an_object_is_there(protocol: type, known: set[str]) -> None:
    """Strict typing lets the adapter read what its protocols declare, and nothing else."""
    own = {name for name, _ in inspect.getmembers(protocol, inspect.isfunction)}
    declared = {*get_type_hints(protocol), *own} - {"__init__", "__subclasshook__", "_no_init"}
    declared -= {name for name in declared if name.startswith("_") and name != "__anext__"}
    assert declared
    assert declared <= known


def test_the_keys_of_statistics_and_events_are_known() -> None:
    stats, events = SPEC["iteration_stats_keys"], SPEC["kv_cache_event"]
    assert {*stats["top"], *stats["kvCacheStats"]} >= names.STATS
    kinds = events["data_types"]
    assert set(events["envelope"]) >= names.EVENT
    stored = {key.split("=")[0] for key in (*events["stored_block"], *events["token"])}
    assert {*kinds["stored"], *stored} >= names.STORED
    assert set(kinds["removed"]) >= names.REMOVED
    assert set(kinds["created"]) >= names.CREATED


@pytest.mark.parametrize("module", ["held", "reports"])
def test_no_other_key_is_read(module: str) -> None:
    """The keys in the source, by what is looked up in a mapping with a literal."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    read = {
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    } | {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get"
        and isinstance(node.args[0], ast.Constant)
    }
    keys = names.STATS | names.EVENT | names.STORED | names.REMOVED | names.CREATED
    assert read
    assert read <= keys


def test_one_module_imports_the_library() -> None:
    importing = {
        path.name
        for path in PACKAGE.parents[1].rglob("*.py")
        if 'import_module("tensorrt_llm' in path.read_text()
        or 'import_module(f"tensorrt_llm' in path.read_text()
        or "import tensorrt_llm" in path.read_text()
    }
    assert importing == {"library.py"}


def test_our_llguidance_has_what_the_library_calls_of_its_own() -> None:
    """The image's is replaced by ours; the calls are those of its module of grammar matchers."""
    steps = {"try_consume_tokens", "rollback", "is_stopped", "is_error", "get_error"}
    grammars = {f"grammar_from_{kind}" for kind in ("json_schema", "regex", "lark")}
    assert steps | grammars <= set(dir(LLMatcher))
    torch = importlib.util.find_spec("llguidance.torch")
    assert torch is not None
    assert torch.origin is not None
    assert "def fill_next_token_bitmask(" in Path(torch.origin).read_text()


@pytest.mark.parametrize("path", ["SamplingParams", "GuidedDecodingParams", "RequestError"])
def test_modules_are_where_the_signatures_say(path: str) -> None:
    source = (PACKAGE / "library.py").read_text()
    module = SPEC["import_paths"][path].split(" | ")[0].removeprefix("tensorrt_llm.")
    module = module.removesuffix(f".{path}")
    assert module == path or f'_module("{module}")' in source
