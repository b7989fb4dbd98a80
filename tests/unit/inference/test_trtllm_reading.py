"""How a result of TensorRT-LLM is read, and a request said to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from services.inference.adapters.trtllm.sampling import Reader, sampling_fields
from services.inference.core.demands import Constraint
from services.inference.ports import (
    EngineFailed,
    EngineFinished,
    GenerateRequest,
    Sampling,
    TokenLogprob,
)

EOS, END = 2, 9


@dataclass
class Output:
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    finish_reason: str | None = None
    request_perf_metrics: Any = None


@dataclass
class Result:
    output: Output = field(default_factory=Output)
    cached_tokens: int = 0

    @property
    def outputs(self) -> list[Output]:
        return [self.output]


def request_of(**changes: Any) -> GenerateRequest:
    stops = {"stop_token_ids": frozenset({EOS, END})}
    asked = {"request_id": "a", "prompt": (5,) * 40, "max_tokens": 8, "sampling": Sampling()}
    return GenerateRequest(**asked | stops | changes)


def reader_of(**changes: Any) -> Reader:
    return Reader(request_of(**changes), EOS, 16)


def finished(reader: Reader, result: Result) -> EngineFinished:
    end = reader.read(result).finished  # type: ignore[arg-type]
    assert end is not None
    return end


def test_only_what_is_new_is_told() -> None:
    reader, result = reader_of(), Result()
    shown = []
    for tokens in ([4], [6, 7], []):
        result.output.token_ids += tokens
        shown.append(reader.read(result).token_ids)  # type: ignore[arg-type]
    assert shown == [(4,), (6, 7), ()]


@pytest.mark.parametrize("last", [[], [EOS], [END]])
def test_the_end_counts_and_is_not_told_whether_the_engine_shows_it_or_not(last: list[int]) -> None:
    reader, result = reader_of(), Result(Output([4, 6, *last], finish_reason="stop"))
    chunk = reader.read(result)  # type: ignore[arg-type]
    assert chunk.token_ids == (4, 6)
    assert chunk.finished is not None
    assert (chunk.finished.reason, chunk.finished.usage.completion) == ("stop", 3)


def test_an_end_token_that_ended_nothing_is_told() -> None:
    reader = reader_of(stop_token_ids=frozenset())
    result = Result(Output([4, END], finish_reason="length"))
    assert reader.read(result).token_ids == (4, END)  # type: ignore[arg-type]


def test_an_abort_is_an_end_of_its_own() -> None:
    result = Result(Output([4], finish_reason="cancelled"))
    assert finished(reader_of(), result).reason == "aborted"


@pytest.mark.parametrize("reason", ["timeout", "not_finished"])
def test_another_end_is_a_failure(reason: str) -> None:
    with pytest.raises(EngineFailed, match=reason):
        reader_of().read(Result(Output([4], finish_reason=reason)))  # type: ignore[arg-type]


def test_cached_tokens_come_in_tokens_or_in_blocks() -> None:
    metrics = SimpleNamespace(kv_cache_metrics=SimpleNamespace(num_reused_blocks=2))
    counted = Result(Output(finish_reason="stop"), cached_tokens=24)
    in_blocks = Result(Output(finish_reason="stop", request_perf_metrics=metrics))
    silent = Result(Output(finish_reason="stop"))
    found = [finished(reader_of(), one).usage.cached for one in (counted, in_blocks, silent)]
    assert found == [24, 32, 0]


def test_logprobs_are_the_chosen_one_and_the_best() -> None:
    entry = {4: SimpleNamespace(logprob=-3.0), 5: SimpleNamespace(logprob=-0.1),
             6: SimpleNamespace(logprob=-1.0)}  # fmt: skip
    reader, result = reader_of(logprobs=2), Result(Output([4, 7], [entry, -0.5]))
    assert reader.read(result).logprobs == (  # type: ignore[arg-type]
        TokenLogprob(4, -3.0, ((5, -0.1), (6, -1.0))),
        TokenLogprob(7, -0.5, ((7, -0.5),)),
    )


def test_greedy_is_said_by_saying_nothing() -> None:
    for greedy in (Sampling(temperature=0), Sampling(top_p=0)):
        fields = sampling_fields(request_of(sampling=greedy), EOS, 10)
        assert not fields.keys() & {"temperature", "top_p", "top_k", "seed"}


def test_chance_is_said_whole() -> None:
    fields = sampling_fields(request_of(sampling=Sampling(temperature=0.5, seed=-1)), EOS, 10)
    assert (fields["temperature"], fields["top_p"], fields["top_k"]) == (0.5, 1.0, 0)
    assert fields["seed"] == 2**63 - 1


def test_a_bias_is_a_row_of_the_vocabulary() -> None:
    sampling = Sampling(logit_bias=((1, 2.0), (3, -1.0), (1, 0.5)))
    fields = sampling_fields(request_of(sampling=sampling), EOS, 4)
    assert fields["embedding_bias"] == [0.0, 2.5, 0.0, -1.0]


@pytest.mark.parametrize(
    ("changes", "end", "stops"),
    [
        ({}, EOS, [END]),
        ({"stop_token_ids": frozenset({END})}, -1, [END]),
        ({"stop_token_ids": frozenset()}, -1, None),
        ({"stop_token_ids": frozenset(), "constraint": Constraint(value="{}")}, EOS, None),
    ],
)
def test_what_ends_an_answer_is_what_was_asked_for_or_ends_a_grammar(
    changes: dict[str, Any], end: int, stops: list[int] | None
) -> None:
    fields = sampling_fields(request_of(**changes), EOS, 10)
    assert (fields["end_id"], fields["stop_token_ids"]) == (end, stops)


@pytest.mark.parametrize(("asked", "said"), [(None, None), (0, 1), (3, 3)])
def test_no_alternatives_are_asked_for_as_one(asked: int | None, said: int | None) -> None:
    """In 1.2 none is no log-probability at all; what is too many is cut when it is read."""
    assert sampling_fields(request_of(logprobs=asked), EOS, 10).get("logprobs") == said
