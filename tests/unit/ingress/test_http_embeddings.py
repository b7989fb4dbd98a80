"""`/v1/embeddings` over HTTP: which way a request goes, in which forms, and what is refused."""

from __future__ import annotations

import pytest

from shared.contracts.embeddings import EmbeddingInput, packed
from shared.contracts.facts import Timings, Usage
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.contracts.workers import WorkerState
from shared.errors import Failure

URL = "/v1/embeddings"
ASK = {"model": "vectors", "input": ["a", "bcd"]}
DONE = DirectResult(
    content="", tool_calls=(), finish="stop", usage=Usage(input=7), model="small", worker="w",
    timings=Timings(),
)  # fmt: skip
ONE, OTHER = packed([1.0, 0.5]), packed([3.0, 0.25])


@pytest.fixture
def worker(system):
    """A worker that answers in two events."""
    system.embedding = ("vectors", "small")
    system.script = [
        DirectEvent(vectors=(ONE,)), DirectEvent(vectors=(OTHER,)), DirectEvent(done=DONE),
    ]  # fmt: skip
    return system


async def test_a_model_of_the_models_file_is_a_workers(http, worker):
    body = (await http.post(URL, json=ASK | {"user": "ada", "dimensions": 2})).json()
    assert [one["embedding"] for one in body["data"]] == [[1.0, 0.5], [3.0, 0.25]]
    assert [one["index"] for one in body["data"]] == [0, 1]
    assert (body["model"], body["usage"]) == ("small", {"prompt_tokens": 7, "total_tokens": 7})
    [request] = worker.requests
    assert request.embedding == EmbeddingInput(texts=("a", "bcd"), dimensions=2)
    assert (request.model, request.metadata, request.whole) == ("vectors", {"user": "ada"}, True)
    assert not worker.bill, "its worker writes that"


@pytest.mark.parametrize("count", [63, 64, 200])
async def test_many_vectors_are_all_there_in_their_order(http, worker, count):
    vectors = tuple(packed([float(place), -0.5]) for place in range(count))
    worker.script = [DirectEvent(vectors=vectors), DirectEvent(done=DONE)]
    body = (await http.post(URL, json=ASK | {"input": ["a"] * count})).json()
    assert [one["embedding"] for one in body["data"]] == [[float(n), -0.5] for n in range(count)]


async def test_base64_is_passed_on_as_it_came(http, worker):
    body = (await http.post(URL, json=ASK | {"encoding_format": "base64"})).json()
    assert [one["embedding"] for one in body["data"]] == [ONE, OTHER]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("a", EmbeddingInput(texts=("a",))),
        ([4, 5], EmbeddingInput(tokens=((4, 5),))),
        ([[4, 5], [6]], EmbeddingInput(tokens=((4, 5), (6,)))),
    ],
)
async def test_an_input_has_four_forms(http, worker, given, wanted):
    await http.post(URL, json=ASK | {"input": given})
    assert worker.requests[0].embedding == wanted


@pytest.mark.parametrize("model", ["vectors", "all-MiniLM-L6-v2"])
@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"input": []}, "empty_input", "input"),
        ({"input": ""}, "empty_input", "input.0"),
        ({"input": ["a", ""]}, "empty_input", "input.1"),
        ({"input": ["a"] * 2049}, "too_many_inputs", "input"),
        ({"input": [["a"]]}, "invalid_request", "input.0.0"),
        ({"input": "a", "dimensions": 0}, "invalid_request", "dimensions"),
        ({"input": "a", "more": 1}, "invalid_request", "more"),
    ],
)
async def test_what_cannot_be_embedded_is_named(http, worker, model, given, code, field):
    answer = await http.post(URL, json={"model": model} | given)
    assert answer.status_code in (400, 413, 422)
    if answer.status_code != 413:  # the bodies of these tests are small
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == (code, field)
    assert not worker.requests


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"input": [4, 5]}, "unsupported_demand", "input"),
        ({"input": ["a"] * 129}, "too_many_inputs", "input"),
        ({"input": "a", "dimensions": 3}, "unsupported_demand", "dimensions"),
    ],
)
async def test_what_the_built_in_model_has_not_is_named(http, system, given, code, field):
    error = (await http.post(URL, json={"model": "all-MiniLM-L6-v2"} | given)).json()["error"]
    assert (error["code"], error["param"]) == (code, field)
    assert not system.bill


async def test_what_the_worker_says_is_the_answer(http, worker):
    failure = Failure(code="unsupported_demand", detail="no", field="model")
    worker.script = [DirectEvent(error=failure)]
    answer = await http.post(URL, json=ASK | {"model": "nano"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, failure.code, "model")


async def test_vectors_that_are_not_all_there_are_no_answer(http, worker):
    worker.script = [DirectEvent(vectors=(ONE,)), DirectEvent(done=DONE)]
    answer = await http.post(URL, json=ASK)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "request_timeout")


async def test_embedding_models_are_listed_as_such(http, worker):
    worker.alive = [
        WorkerState(worker="w", model="small", engine="provider", slots=4, dimensions=2)
    ]
    known = {one["id"]: one for one in (await http.get("/v1/models")).json()["data"]}
    assert known["small"]["owned_by"] == known["vectors"]["owned_by"] == "millrace:embedding"
    assert (known["small"]["dimensions"], known["default"]["owned_by"]) == (2, "millrace:route")
