"""What an endpoint is asked for vectors, and what is made of its answer."""

from __future__ import annotations

import msgspec
import orjson
import pytest

from services.inference.adapters.provider.openai_embedding import (
    embedding_request,
    read_vectors,
    too_long,
)
from services.inference.adapters.provider.refusals import Endpoint, Said, meaning
from services.inference.ports import ContextTooLong, EndpointRefused, UnsupportedDemand
from shared.contracts.embeddings import EmbeddingInput, packed, unpacked
from shared.models import ProviderModel
from tests.unit.inference.provider.questions import row as chat_row

TWO = EmbeddingInput(texts=("a", "b"))


def row(**more: object) -> ProviderModel:
    return chat_row(embeddings=True, **more)


def answer(*each: object, **more: object) -> bytes:
    data = [{"object": "embedding", "index": n, "embedding": one} for n, one in enumerate(each)]
    return orjson.dumps({"object": "list", "data": data, **more})


def test_a_request_holds_what_is_asked_for_and_no_more() -> None:
    body = embedding_request(row(dimensions=4), TWO)
    assert body == {"model": row().name, "input": ["a", "b"], "encoding_format": "base64"}
    tokens = EmbeddingInput(tokens=((1, 2), (3,)))
    assert embedding_request(row(), tokens)["input"] == [[1, 2], [3]]


@pytest.mark.parametrize(("asked", "sent"), [(4, None), (3, 3)])
def test_a_length_is_asked_for_where_it_is_not_the_models_own(asked, sent) -> None:
    wanted = EmbeddingInput(texts=("a",), dimensions=asked)
    assert embedding_request(row(dimensions=4), wanted).get("dimensions") == sent


def test_what_a_row_puts_into_every_request_is_left_to_it() -> None:
    body = embedding_request(row(extra_body={"encoding_format": "float"}), TWO)
    assert "encoding_format" not in body


def test_both_forms_of_a_vector_are_read() -> None:
    body = answer(packed([0.5, 2.0]), [1, -0.25], usage={"prompt_tokens": 3, "total_tokens": 9})
    found = read_vectors(body, TWO, row())
    assert [unpacked(one) for one in found.vectors] == [[0.5, 2.0], [1.0, -0.25]]
    assert found.tokens == 3


def test_vectors_are_sorted_by_the_place_of_their_input() -> None:
    data = [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.0]}]
    found = read_vectors(orjson.dumps({"data": data}), TWO, row())
    assert [unpacked(one) for one in found.vectors] == [[0.0], [1.0]]
    assert found.tokens == 0


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b'{"data": 7}',
        answer([1.0]),
        answer([1.0], [1.0], [1.0]),
        answer([1.0], [1.0, 2.0]),
        answer([], []),
        answer("AAA=", "AAA="),
        answer("not base64!", "not base64!"),
        answer(packed([float("nan")]), packed([1.0])),
        answer(packed([float("inf")]), packed([1.0])),
        answer([1e300], [1.0]),
        orjson.dumps({"data": [{"index": 0, "embedding": [1.0]}] * 2}),
    ],
    ids=["html", "shape", "few", "many", "uneven", "empty", "odd", "base64", "nan", "inf",
         "large", "twice"],
)  # fmt: skip
def test_what_is_no_answer_is_not_passed_for_one(body: bytes) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        read_vectors(body, TWO, row())


def test_another_length_than_was_asked_for_is_refused() -> None:
    wanted = EmbeddingInput(texts=("a",), dimensions=2)
    with pytest.raises(UnsupportedDemand) as refused:
        read_vectors(answer([1.0, 2.0, 3.0]), wanted, row())
    assert refused.value.field == "dimensions"


def test_another_length_than_the_row_says_is_for_a_person_to_mend() -> None:
    with pytest.raises(EndpointRefused, match="`dimensions`"):
        read_vectors(answer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), TWO, row(dimensions=2))


def test_the_input_that_is_too_long_is_the_one_that_is_named_or_the_longest() -> None:
    texts = EmbeddingInput(texts=("a", "a long one", "b"))
    assert [too_long(texts, told) for told in (None, 0, 2, 3)] == [1, 0, 2, 1]
    assert too_long(EmbeddingInput(tokens=((1,), (1, 2), (1, 2, 3))), None) == 2


@pytest.mark.parametrize(
    ("status", "error", "place"),
    [
        (422, {"code": "context_too_long", "message": "no", "param": "input.3"}, 3),
        (400, {"message": "maximum context length is 8192 tokens", "param": "input[12]"}, 12),
        (400, {"message": "maximum context length is 8192 tokens", "param": None}, None),
        (500, {"message": "input (602 tokens) is too large to process."}, None),
    ],
)
def test_an_input_that_is_too_long_is_told_from_a_server_in_trouble(status, error, place) -> None:
    class Key:
        def hidden(self, text: str) -> str:
            return text

    endpoint = Endpoint("there", "m", Key())  # type: ignore[arg-type]
    found = meaning(Said(status, {"error": error}), endpoint)
    assert isinstance(found, ContextTooLong)
    assert found.place == place
