"""Owns the conversation with an OpenAI-compatible endpoint, through OpenAI's own client.

The only module that imports `openai`. Retries of the client are off: the loop retries, and sees
what it pays for. What comes over the wire is read strictly; a stream that is none is a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import Any, cast

import httpx
import msgspec
import openai

from services.inference.adapters.provider.hearing import CallPart, Heard
from services.inference.adapters.provider.key import Key
from services.inference.adapters.provider.openai_embedding import (
    embedding_request,
    read_vectors,
    too_long,
)
from services.inference.adapters.provider.openai_http import Http
from services.inference.adapters.provider.openai_request import TEMPLATE, chat_request, unthinking
from services.inference.adapters.provider.refusals import (
    UNAVAILABLE,
    Endpoint,
    Said,
    is_well,
    meaning,
)
from services.inference.core.answering import Json, Question
from services.inference.core.generation import FinishReason, TokenUsage
from services.inference.ports import (
    ABILITIES,
    Ability,
    ContextTooLong,
    Embedded,
    EngineFailed,
    InputTooLong,
    UnsupportedDemand,
)
from shared.contracts.embeddings import EmbeddingInput
from shared.contracts.tokens import Logprob
from shared.errors import Permanent
from shared.models import ProviderModel

_OFFICIAL = "https://api.openai.com/v1"
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_BROKEN = frozenset(("error", "abort"))
_ABILITY_OF: dict[str, Ability] = {
    "logprobs": "logprobs",
    "response_format": "constraint",
    "tool_choice": "constraint",
    "frequency_penalty": "penalties",
    "presence_penalty": "penalties",
    "logit_bias": "penalties",
}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """As vLLM, Ollama and others call it now."""
    tool_calls: list[_Call] | None = None


class _Score(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top_logprobs: tuple[_Score, ...] = ()


class _Scores(msgspec.Struct):
    content: list[_Score] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Scores | None = None
    stop_reason: str | int | None = None
    """vLLM's: the stop string, or the id of the stop token."""


class _Prompt(msgspec.Struct):
    cached_tokens: int | None = None


class _Completion(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Prompt | None = None
    completion_tokens_details: _Completion | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


class OpenAiWire:
    """`Wire` of chat completions."""

    def __init__(self, row: ProviderModel, key: Key) -> None:
        self._row, self._key = row, key
        base = row.base_url or _OFFICIAL
        self._endpoint = Endpoint(httpx.URL(base).host, row.name, key)
        timeouts = httpx.Timeout(None, connect=row.timeouts.connect)
        self._client = openai.AsyncOpenAI(
            api_key=key.read(),
            base_url=base,
            max_retries=0,
            timeout=timeouts,
            default_headers=row.headers,
            http_client=Http(
                timeout=timeouts,
                limits=httpx.Limits(max_keepalive_connections=row.concurrency),
                trust_env=not self._endpoint.near,
            ),
        )
        if row.base_url is not None:  # nothing of an account at OpenAI goes to anybody else
            self._client.organization = self._client.project = None

    @property
    def abilities(self) -> frozenset[Ability]:
        """See the protocol."""
        lacking = {_ABILITY_OF[lack] for lack in self._row.without if lack in _ABILITY_OF}
        return (ABILITIES - lacking) | unthinking(self._row)

    def request(self, question: Question) -> Json:
        """See the protocol."""
        return chat_request(self._row, question)

    async def answer(self, request: Json) -> AsyncGenerator[Heard]:
        """See the protocol."""
        arguments = dict(request)
        foreign = ("top_k", TEMPLATE, *self._row.extra_body)
        extra = {name: arguments.pop(name) for name in foreign if name in arguments}
        with self._translated():
            created = self._client.chat.completions.create(
                **cast("Any", arguments), extra_body=extra
            )
            stream = cast("openai.AsyncStream[Any]", await created)
        with self._translated(begun=True):
            try:
                async for chunk in stream:
                    yield _heard(msgspec.convert(chunk, _Chunk, from_attributes=True))
            finally:
                await stream.close()

    async def count(self, question: Question) -> int:
        """See the protocol: this API has no way to ask."""
        raise UnsupportedDemand(f"the endpoint of {self._row.name} counts no tokens", "messages")

    async def embed(self, wanted: EmbeddingInput) -> Embedded:
        """See the protocol."""
        try:
            with self._translated():
                answer = await self._client.embeddings.with_raw_response.create(
                    **cast("Any", embedding_request(self._row, wanted)),
                    extra_body=self._row.extra_body,
                )
                # a hundred large vectors take longer than others want to wait for the loop
                return await asyncio.to_thread(read_vectors, answer.content, wanted, self._row)
        except ContextTooLong as error:
            raise InputTooLong(error.detail, too_long(wanted, error.place)) from None

    async def look(self) -> None:
        """The list of models: every such server has one, or answers that it has none."""
        self._client.api_key = self._key.read()
        with self._translated():
            try:
                await self._client.models.with_raw_response.list(timeout=self._row.timeouts.connect)
            except openai.APIStatusError as error:
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
        except openai.APIStatusError as error:
            said = Said(error.status_code, error.body, error.response.headers)
            raise meaning(said, self._endpoint) from None
        except (openai.APIConnectionError, httpx.HTTPError) as error:
            name = type(error.__cause__ or error).__name__
            if begun:
                raise EngineFailed(f"the endpoint's stream broke off ({name})") from None
            detail = f"{self._endpoint.address} cannot be reached ({name})"
            raise EngineFailed(detail, UNAVAILABLE) from None
        except openai.APIError as error:
            raise meaning(Said(0, error.body), self._endpoint) from None
        except (
            ValueError,
            msgspec.MsgspecError,
        ) as error:  # neither JSON nor UTF-8, or of another form
            name = type(error).__name__
            raise EngineFailed(f"what the endpoint sent is no answer ({name})") from None


def _heard(chunk: _Chunk) -> Heard:
    usage = None if chunk.usage is None else _usage(chunk.usage)
    choice = chunk.choices[0] if chunk.choices else None
    if choice is None:
        return Heard(usage=usage)
    delta = choice.delta or _Delta()
    if choice.finish_reason in _BROKEN:
        raise EngineFailed("the endpoint broke the answer off")
    if choice.finish_reason == "content_filter":
        raise Permanent("content_filtered", "the endpoint withholds the rest of the answer")
    stopped = choice.stop_reason if isinstance(choice.stop_reason, str) else None
    return Heard(
        text=(delta.content or "") + (delta.refusal or ""),
        thought=delta.reasoning_content or delta.reasoning or "",
        calls=tuple(_part(place, call) for place, call in enumerate(delta.tool_calls or ())),
        scores=tuple(map(_score, (choice.logprobs and choice.logprobs.content) or ())),
        usage=usage,
        finish=_FINISH.get(choice.finish_reason, "stop") if choice.finish_reason else None,
        stop_string=stopped,
    )


def _part(place: int, call: _Call) -> CallPart:
    function = call.function or _Function()
    return CallPart(
        place=place if call.index is None else call.index,
        id=call.id or "",
        name=function.name or "",
        arguments=function.arguments or "",
    )


def _score(score: _Score) -> Logprob:
    seen = score.bytes if score.bytes is not None else tuple(score.token.encode())
    top = tuple(map(_score, score.top_logprobs))
    return Logprob(text=score.token, logprob=score.logprob, bytes=seen or None, top=top)


def _usage(usage: _Usage) -> TokenUsage:
    """Parts are never more than the whole, whatever a server says."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    cached = (usage.prompt_tokens_details or _Prompt()).cached_tokens or 0
    thought = (usage.completion_tokens_details or _Completion()).reasoning_tokens or 0
    return TokenUsage(prompt, completion, min(cached, prompt), min(thought, completion))
