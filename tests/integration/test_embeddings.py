"""Vectors by OpenAI's own client, from models behind endpoints: ours (a chain of two) and another.

The inner model of the chain is the built-in one, so what the outer one says can be compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio

from shared.contracts.facts import Completed
from shared.models import ModelsFile, OpenVinoModel, Prices, ProviderModel
from tests.integration.embedding_system import (
    BUILT_IN,
    DIMENSIONS,
    Embeddings,
    embedding_system,
)
from tests.integration.provider.endpoints import llama_server
from tests.integration.provider.proxy import Fault, proxy
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(60),
]
CHAINED = ProviderModel(
    name=BUILT_IN, embeddings=True, dimensions=DIMENSIONS, batch=2, prices=Prices(input="5"),
    key="THE_KEY", context=512,
)  # fmt: skip
LLAMA = ProviderModel(
    name="nano", embeddings=True, batch=2, key="THE_KEY", context=512,
    lacks=frozenset(("dimensions",)),
)  # fmt: skip
MODELS = ModelsFile(
    models={
        "mini": CHAINED,
        "spare": CHAINED,
        "llama": LLAMA,
        "stuck": LLAMA,
        "nano": OpenVinoModel(path=""),
    },
    routes={"vectors": ("spare", "mini"), "default": ("nano",)},
)
TEXTS = ["The cat sleeps.", "A kitten is napping.", "Interest rates rose.", "Öl und Salz", "wheel"]
TOKEN = 500
"""What a token of `mini` costs."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Embeddings]:
    folder = tmp_path_factory.mktemp("embeddings")
    with llama_server(tmp_path_factory.mktemp("llama"), 0, "vectors") as llama:
        async with embedding_system(folder, MODELS) as running:
            await running.worker("mini", base_url=f"{running.url}/v1")
            await running.worker("llama", base_url=f"{llama}/v1")
            await running.loop.start("w1")  # the scripted model `nano`, which talks
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(system: Embeddings) -> AsyncIterator[openai.AsyncOpenAI]:
    async with system.client() as found:
        yield found


async def test_vectors_of_a_chain_of_two_are_those_of_the_model_at_its_end(client) -> None:
    outer = await client.embeddings.create(model="mini", input=TEXTS)
    inner = await client.embeddings.create(model=BUILT_IN, input=TEXTS)
    # not to the last bit: the outer one's batches are smaller, and some processors add in an order
    # that depends on the shape
    for one, other in zip(outer.data, inner.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert [one.index for one in outer.data] == list(range(len(TEXTS)))
    assert (outer.model, outer.usage) == ("mini", inner.usage)
    assert outer.usage.prompt_tokens == outer.usage.total_tokens > 0


async def test_both_encodings_are_the_same_numbers(client) -> None:
    packed = await client.embeddings.create(model="mini", input="wheel")
    plain = await client.embeddings.create(model="mini", input="wheel", encoding_format="float")
    assert packed.data[0].embedding == plain.data[0].embedding
    assert len(plain.data[0].embedding) == DIMENSIONS


async def test_token_ids_are_one_input_or_several(client) -> None:
    one = await client.embeddings.create(model="llama", input=[4, 5, 6])
    both = await client.embeddings.create(model="llama", input=[[4, 5, 6], [7], [4, 5, 6]])
    assert (len(one.data), one.usage.prompt_tokens) == (1, 3)
    assert (len(both.data), both.usage.prompt_tokens) == (3, 7)
    assert both.data[2].embedding == pytest.approx(one.data[0].embedding, abs=1e-4)


async def test_an_answer_larger_than_a_message_arrives_whole(system, client) -> None:
    await system.worker("spare", base_url=f"{system.url}/v1", batch=128)
    texts = [f"word {number}" for number in range(130)]
    found = await client.embeddings.create(model="spare", input=texts)
    assert len(found.data) == 130
    alone = await client.embeddings.create(model=BUILT_IN, input=texts[129])
    assert found.data[129].embedding == pytest.approx(alone.data[0].embedding, abs=1e-5)
    await system.loop.stop("spare")


async def test_a_route_goes_to_its_first_model_that_is_there(system, client) -> None:
    async def answers(name: str) -> bool:
        found = await client.embeddings.create(model="vectors", input="wheel")
        return bool(found.model == name)

    assert await answers("mini")
    await system.worker("spare", base_url=f"{system.url}/v1")
    await until(lambda: answers("spare"))
    await system.loop.stop("spare")
    await until(lambda: answers("mini"))


async def test_what_is_asked_for_wrongly_is_refused_by_name(client) -> None:
    for model, given, code, param in (
        ("nano", {"input": "a"}, "unsupported_demand", "model"),
        ("default", {"input": "a"}, "unsupported_demand", "model"),
        ("nowhere", {"input": "a"}, "model_not_found", "model"),
        ("stuck", {"input": "a"}, "no_worker", None),
        ("mini", {"input": ["a", ""]}, "empty_input", "input.1"),
        ("mini", {"input": []}, "empty_input", "input"),
        ("mini", {"input": ["a"] * 2049}, "too_many_inputs", "input"),
        ("mini", {"input": "a", "dimensions": 12}, "unsupported_demand", "dimensions"),
        ("llama", {"input": "a", "dimensions": 12}, "unsupported_demand", "dimensions"),
        ("llama", {"input": ["a", "b", "c", "word " * 600]}, "context_too_long", "input.3"),
        (BUILT_IN, {"input": [4, 5]}, "unsupported_demand", "input"),
        (BUILT_IN, {"input": "a", "dimensions": 12}, "unsupported_demand", "dimensions"),
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            await client.embeddings.create(model=model, **given)
        assert (refused.value.code, refused.value.param) == (code, param), model


async def test_an_embedding_model_does_not_talk(client) -> None:
    hello = [{"role": "user", "content": "Hi"}]
    for model in ("mini", "vectors"):
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            await client.chat.completions.create(model=model, messages=hello)
        assert (refused.value.code, refused.value.param) == ("unsupported_demand", "model")


async def test_embedding_models_are_listed_as_such(client) -> None:
    known = {one.id: one async for one in client.models.list()}
    assert {name: one.owned_by for name, one in known.items() if ":" not in name} == {
        "default": "millrace:route", "nano": "millrace:model",
        "llama": "millrace:embedding", "mini": "millrace:embedding",
        "vectors": "millrace:embedding",
    }  # fmt: skip
    assert known["mini"].dimensions == DIMENSIONS


async def test_each_is_a_line_of_the_bill_with_what_failed_after_it_was_computed(
    system, client
) -> None:
    found = await client.embeddings.create(model="vectors", input=TEXTS[:2], user="ada")
    texts = ["a", "b", "word " * 600]
    with pytest.raises(openai.APIStatusError):
        await client.embeddings.create(model="llama", input=texts, user="ada")

    async def hers() -> list[Completed]:
        return [fact for fact in await system.billed() if fact.metadata == {"user": "ada"}]

    async def written() -> bool:
        return len(await hers()) == 2

    await until(written)
    llama, mini = sorted(await hers(), key=lambda fact: fact.model)
    assert (mini.model, llama.model) == ("mini", "llama")
    assert mini.kind == llama.kind == "embedding"
    assert (mini.usage.input, mini.usage.output) == (found.usage.prompt_tokens, 0)
    assert mini.price == mini.usage.input * TOKEN
    assert (mini.route, mini.metadata, mini.error) == ("vectors", {"user": "ada"}, None)
    assert BUILT_IN in {fact.model for fact in await system.billed() if fact.usage == mini.usage}
    assert llama.error is not None
    assert (llama.error.code, llama.usage.input) == ("context_too_long", 2)


async def test_a_client_that_goes_frees_the_worker_and_is_on_the_log(system, client) -> None:
    async with proxy(1) as way:
        way.look, way.fault = Fault("raw", raw=b"HTTP/1.1 404 None\r\n\r\n"), Fault("silence")
        await system.worker("stuck", base_url=f"{way.url}/v1")

        async def there() -> bool:
            return "stuck" in {one.id async for one in client.models.list()}

        await until(there)
        asking = asyncio.create_task(client.embeddings.create(model="stuck", input="wheel"))
        await until(lambda: way.open == 1)
        asking.cancel()
        await way.let_go()

        async def written() -> bool:
            last = [fact for fact in await system.billed() if fact.model == "stuck"]
            return [fact.error and fact.error.code for fact in last] == ["client_gone"]

        await until(written)
        await system.loop.stop("stuck")
