"""Owns the conversation with an endpoint of Anthropic's Messages API, through their own client.

The only module that imports `anthropic`. As in the other dialect: no retries in here, and what
comes over the wire is read strictly.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import anthropic
import httpx2
import msgspec

from services.inference.adapters.provider.anthropic_request import messages_request, prompt
from services.inference.adapters.provider.connections import over_a_live_one
from services.inference.adapters.provider.hearing import CallPart, Heard
from services.inference.adapters.provider.key import Key
from services.inference.adapters.provider.openai_request import unthinking
from services.inference.adapters.provider.refusals import (
    UNAVAILABLE,
    Endpoint,
    Said,
    is_well,
    meaning,
)
from services.inference.core.answering import Json, Question
from services.inference.core.generation import FinishReason, TokenUsage
from services.inference.ports import Ability, Embedded, EngineFailed, UnsupportedDemand
from shared.contracts.embeddings import EmbeddingInput
from shared.errors import Permanent
from shared.models import ProviderModel

_OFFICIAL = "https://api.anthropic.com"
_FINISH: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class _Output(msgspec.Struct):
    thinking_tokens: int = 0


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _Output | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Block(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str = ""


class _Delta(msgspec.Struct):
    """Of a block, or of the message."""

    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


class _Http(httpx2.AsyncClient):
    """Knows that a kept connection may have ended."""

    async def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:  # noqa: ANN401 - as inherited
        broken = (httpx2.RemoteProtocolError, httpx2.ReadError)
        return await over_a_live_one(
            lambda: super(_Http, self).send(request, **how), request, broken
        )


class AnthropicWire:
    """`Wire` of messages."""

    def __init__(self, row: ProviderModel, key: Key) -> None:
        self._row, self._key = row, key
        base = row.base_url or _OFFICIAL
        self._endpoint = Endpoint(httpx2.URL(base).host, row.name, key)
        timeouts = httpx2.Timeout(None, connect=row.timeouts.connect)
        self._client = anthropic.AsyncAnthropic(
            api_key=key.read(),
            base_url=base,
            max_retries=0,
            timeout=timeouts,
            default_headers=row.headers,
            http_client=_Http(
                timeout=timeouts,
                limits=httpx2.Limits(max_keepalive_connections=row.concurrency),
                trust_env=not self._endpoint.near,
            ),
        )

    @property
    def abilities(self) -> frozenset[Ability]:
        """See the protocol: log-probabilities and penalties this API does not have."""
        lacking = {"tool_choice", "response_format"} & self._row.without
        enforced: frozenset[Ability] = frozenset(() if lacking else ("constraint",))
        return enforced | unthinking(self._row)

    def request(self, question: Question) -> Json:
        """See the protocol."""
        return messages_request(self._row, question)

    async def answer(self, request: Json) -> AsyncGenerator[Heard]:
        """See the protocol."""
        arguments = dict(request)
        extra = {
            name: arguments.pop(name)
            for name in ("temperature", "top_p", "top_k", *self._row.extra_body)
            if name in arguments
        }
        with self._translated():
            created = self._client.messages.create(**cast("Any", arguments), extra_body=extra)
            stream = cast("anthropic.AsyncStream[Any]", await created)
        hearing = _Hearing()
        with self._translated(begun=True):
            try:
                async for event in stream:
                    yield hearing.of(msgspec.convert(event, _Event, from_attributes=True))
            finally:
                await stream.close()

    async def count(self, question: Question) -> int:
        """See the protocol."""
        with self._translated():
            counted = await self._client.messages.count_tokens(
                model=self._row.name, **cast("Any", prompt(question))
            )
        return counted.input_tokens

    async def embed(self, wanted: EmbeddingInput) -> Embedded:
        """See the protocol: Anthropic has no embedding models."""
        raise UnsupportedDemand("this API has no embeddings", field="model")

    async def look(self) -> None:
        """The list of models, which costs nothing."""
        self._client.api_key = self._key.read()
        with self._translated():
            try:
                await self._client.models.with_raw_response.list(timeout=self._row.timeouts.connect)
            except anthropic.APIStatusError as error:
                if not is_well(error.status_code):
                    raise

    async def close(self) -> None:
        """See the protocol."""
        await self._client.close()

    @contextmanager
    def _translated(self, *, begun: bool = False) -> Generator[None]:
        """Errors of the client and of what is below it as ours."""
        try:
            yield
        except anthropic.APIStatusError as error:
            # an error inside a stream comes with the status of the stream, which was a success
            status = error.status_code if error.status_code >= 400 else 0
            said = Said(status, error.body, error.response.headers)
            raise meaning(said, self._endpoint) from None
        except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
            name = type(error.__cause__ or error).__name__
            if begun:
                raise EngineFailed(f"the endpoint's stream broke off ({name})") from None
            detail = f"{self._endpoint.address} cannot be reached ({name})"
            raise EngineFailed(detail, UNAVAILABLE) from None
        except (anthropic.APIError, ValueError, msgspec.MsgspecError) as error:
            name = type(error).__name__
            raise EngineFailed(f"what the endpoint sent is no answer ({name})") from None


@dataclass(slots=True)
class _Hearing:
    """One answer's events; what it costs is told in parts."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    thought: int = 0
    told: bool = False

    def of(self, event: _Event) -> Heard:
        """What an event says. Thinking, pings and whatever is new say nothing to show."""
        match event.type:
            case "message_start":
                self._usage((event.message or _Message()).usage)
            case "content_block_start":
                return _begun(event.index, event.content_block or _Block())
            case "content_block_delta":
                return _more(event.index, event.delta or _Delta())
            case "message_delta":
                self._usage(event.usage)
                return self._end(event.delta or _Delta())
        return Heard()

    def _end(self, delta: _Delta) -> Heard:
        if delta.stop_reason == "refusal":
            raise Permanent("content_filtered", "the endpoint withholds the rest of the answer")
        whole = TokenUsage(self.prompt, self.completion, self.cached, self.thought)
        usage = whole if self.told else None
        finish = _FINISH.get(delta.stop_reason, "stop") if delta.stop_reason else None
        return Heard(usage=usage, finish=finish, stop_string=delta.stop_sequence)

    def _usage(self, usage: _Usage | None) -> None:
        """Numbers are totals so far. Their input leaves out what the cache held or took."""
        if usage is None:
            return
        self.told = True
        if usage.input_tokens is not None:
            self.cached = usage.cache_read_input_tokens or 0
            written = usage.cache_creation_input_tokens or 0
            self.prompt = usage.input_tokens + self.cached + written
        if usage.output_tokens is not None:
            self.completion = usage.output_tokens
        if usage.output_tokens_details is not None:
            self.thought = min(usage.output_tokens_details.thinking_tokens, self.completion)


def _begun(place: int, block: _Block) -> Heard:
    if block.type == "tool_use":
        return Heard(calls=(CallPart(place, block.id, block.name),))
    return Heard(text=block.text) if block.type == "text" else Heard()


def _more(place: int, delta: _Delta) -> Heard:
    if delta.type == "text_delta":
        return Heard(text=delta.text)
    if delta.type == "thinking_delta":
        return Heard(thought=delta.thinking)
    if delta.type == "input_json_delta":
        return Heard(calls=(CallPart(place, arguments=delta.partial_json),))
    return Heard()
