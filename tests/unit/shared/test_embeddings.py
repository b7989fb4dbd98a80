"""What may be asked to become vectors, and how they travel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus.direct import _needs
from shared.contracts.embeddings import EmbeddingInput, check_input, packed, unpacked
from shared.contracts.work import DirectRequest
from shared.errors import Permanent


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_a_vector_arrives_as_it_was_sent(vector) -> None:
    assert unpacked(packed(vector)) == vector


@pytest.mark.parametrize("text", ["AAA=", "nonsense!", "AAAAAAA="])
def test_what_is_no_vector_is_no_vector(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever reads it
        unpacked(text)


def test_a_part_has_the_inputs_of_its_places() -> None:
    whole = EmbeddingInput(tokens=((1,), (2, 3), (4,)), dimensions=5)
    assert whole.part(1, 3) == EmbeddingInput(tokens=((2, 3), (4,)), dimensions=5)
    assert list(EmbeddingInput(texts=("a", "b")).part(0, 1).each) == ["a"]


@pytest.mark.parametrize(
    ("wanted", "code", "field"),
    [
        (EmbeddingInput(), "empty_input", "input"),
        (EmbeddingInput(texts=("a", "")), "empty_input", "input.1"),
        (EmbeddingInput(tokens=((1,), ())), "empty_input", "input.1"),
        (EmbeddingInput(tokens=((1,), (3, -1))), "invalid_request", "input.1"),
        (EmbeddingInput(texts=("a",), tokens=((1,),)), "invalid_request", "input"),
        (EmbeddingInput(texts=("a",) * 2049), "too_many_inputs", "input"),
        (EmbeddingInput(texts=("a",), dimensions=0), "invalid_request", "dimensions"),
    ],
)
def test_what_cannot_be_embedded_is_named(wanted, code, field) -> None:
    with pytest.raises(Permanent) as refused:
        check_input(wanted)
    assert (refused.value.code, refused.value.field) == (code, field)


def test_as_many_as_may_be_are_fine() -> None:
    wanted = EmbeddingInput(texts=("a",) * 2048, dimensions=1)
    assert check_input(wanted) is wanted


def test_it_goes_to_a_worker_that_says_that_it_embeds() -> None:
    wanted = EmbeddingInput(texts=("a",))
    request = DirectRequest(id="e", tenant="t", model="m", messages=(), embedding=wanted)
    assert _needs(request) == {"embeddings": "model"}
