"""OpenAI's own client and the WebSocket mode of `/v1/responses`."""

from __future__ import annotations

import openai
import orjson
import pytest
from websockets.asyncio.client import connect

from tests.e2e.clients.fronts import Fronts
from tests.e2e.clients.test_openai_responses import TOOL, call_of, output

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="package"),
]


async def turn(connection, **ask: object) -> object:
    """One response, to its end."""
    await connection.response.create(**({"model": "default"} | ask))
    numbers: list[int] = []
    while True:
        event = await connection.recv()
        if event.type == "error":
            return event
        numbers.append(event.sequence_number)
        if event.type in ("response.completed", "response.failed", "response.incomplete"):
            assert numbers == sorted(set(numbers))
            return event.response


async def test_several_responses_on_one_socket(fronts: Fronts) -> None:
    async with fronts.client() as client, client.responses.connect() as connection:
        first = await turn(connection, input="call mine", tools=[TOOL])
        given = [output(call_of(first), "42")]
        second = await turn(connection, input=given, previous_response_id=first.id, tools=[TOOL])
        assert second.output_text == "got 42"
        third = await turn(connection, input="say bye", previous_response_id=second.id)
        assert third.output_text == "bye"
        assert (await client.responses.retrieve(third.id)).output_text == "bye"


async def test_what_is_not_stored_lives_as_long_as_its_socket(fronts: Fronts) -> None:
    async with fronts.client() as client, client.responses.connect() as connection:
        first = await turn(connection, input="say one", store=False)
        second = await turn(connection, input="say two", previous_response_id=first.id, store=False)
        assert second.output_text == "two"
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)
        async with client.responses.connect() as other:
            event = await turn(other, input="say no", previous_response_id=first.id)
            assert event.type == "error"


async def test_what_is_wrong_is_said_and_the_socket_stays_open(fronts: Fronts) -> None:
    url = fronts.urls[0].replace("http", "ws", 1) + "/v1/responses"
    ask = {"type": "response.create", "model": "default", "input": "say x"}
    wrong = [
        (b"{", "invalid_json"),
        (b"[]", "invalid_request"),
        (orjson.dumps({"type": "response.steer"}), "unknown_event"),
        (orjson.dumps(ask | {"background": True}), "unsupported_parameter"),
        (orjson.dumps(ask | {"input": 7}), "invalid_request"),
        (orjson.dumps(ask | {"model": "nothing"}), "model_not_found"),
    ]
    async with connect(url, proxy=None) as socket:
        for message, code in wrong:
            await socket.send(message.decode())
            answer = orjson.loads(await socket.recv())
            assert (answer["type"], answer["error"]["code"]) == ("error", code)
        await socket.send(orjson.dumps(ask).decode())
        assert orjson.loads(await socket.recv())["type"] == "response.created"
