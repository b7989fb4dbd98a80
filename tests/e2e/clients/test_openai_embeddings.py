"""Embeddings by OpenAI's own client, which asks for base64 where nothing else is said."""

from __future__ import annotations

import math
from collections.abc import Iterator

import openai
import pytest

from tests.e2e.running import System

pytestmark = pytest.mark.e2e
MODEL = "all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[openai.OpenAI]:
    url = f"{system.http_url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_texts_become_unit_vectors_that_know_what_is_alike(client: openai.OpenAI) -> None:
    texts = ["The cat sleeps.", "A kitten is napping.", "Interest rates rose."]
    answer = client.embeddings.create(model=MODEL, input=texts)
    cat, kitten, rates = (one.embedding for one in answer.data)
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-3) for vector in (cat, kitten))
    assert math.sumprod(cat, kitten) > math.sumprod(cat, rates) + 0.2
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_both_encodings_are_the_same_numbers(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model=MODEL, input="wheel").data[0].embedding
    plain = client.embeddings.create(model=MODEL, input="wheel", encoding_format="float")
    assert packed == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_what_is_not_there_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="ada", input="wheel")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model=MODEL, input="wheel", dimensions=12)
    assert refused.value.param == "dimensions"
