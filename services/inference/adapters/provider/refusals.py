"""Owns what an endpoint's errors mean: a status, a body and headers become one of our errors.

Must not know SDKs. What the endpoint says is repeated where it is about the request (400), cut and
without the key; where it is about the account, only who runs this worker is told what to look at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.inference.adapters.provider.key import Key
from services.inference.adapters.provider.limits import wait_of
from services.inference.ports import (
    ContextTooLong,
    EndpointRefused,
    EngineFailed,
    InvalidRequest,
    UnsupportedDemand,
)
from shared.errors import MillraceError

UNAVAILABLE, RATE_LIMITED = "provider_unavailable", "provider_rate_limited"
_READ, _LONGEST = 4000, 300
"""Characters of what an endpoint says that are read, and that are repeated."""
_TOO_LONG = re.compile(
    r"context.{0,20}(length|size|window)|(prompt|input|request).{0,20} too (long|large)"
    r"|input.{0,60}exceeds|exceeds? the (available )?context",
    re.IGNORECASE | re.DOTALL,
)
_PLACE = re.compile(r"input[.\[]([0-9]{1,6})(?![0-9])")
_TOO_LONG_CODES = frozenset(
    ("context_length_exceeded", "context_too_long", "exceed_context_size_error", "string_too_long")
)
_FIELDS = {
    "max_completion_tokens": "max_tokens",
    "output_config": "response_format",
    "stop_sequences": "stop",
    "system": "messages",
    "input_schema": "tools",
}
_OWN_FIELDS = frozenset(
    (
        "messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "stop",
        "max_tokens", "temperature", "top_p", "top_k", "seed", "logprobs", "logit_bias",
        "frequency_penalty", "presence_penalty", "input", "dimensions",
    )
)  # fmt: skip
_STATUS_OF_TYPE = {
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "authentication_error": 401,
    "permission_error": 403,
    "billing_error": 402,
    "invalid_request_error": 400,
    "exceed_context_size_error": 400,
}
_TO_MEND = frozenset((401, 402, 403, 404, 405))
_UNSUPPORTED = frozenset(("unsupported_demand", "unsupported_parameter", "unsupported_value"))
_NO_MONEY = frozenset(("insufficient_quota", "billing_hard_limit_reached", "billing_error"))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom an error is about, for those who have to mend it."""

    address: str
    model: str
    key: Key

    @property
    def near(self) -> bool:
        """Whether it is on this machine: no proxy of the environment stands before it."""
        return self.address in ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Said:
    """An error as an endpoint told it; `status` is 0 where it came inside a stream."""

    status: int
    body: object = None
    headers: Mapping[str, str] | None = None

    def _part(self, name: str) -> str:
        """A text of the error object, which is the body or lies in it."""
        body = self.body if isinstance(self.body, Mapping) else {}
        inner = body.get("error", body)
        found = inner.get(name) if isinstance(inner, Mapping) else None
        return found if isinstance(found, str) else ""

    @property
    def words(self) -> str:
        """What it says, in a line."""
        return " ".join(self._part("message")[:_READ].split())

    @property
    def kinds(self) -> frozenset[str]:
        """How it calls itself."""
        return frozenset(filter(None, (self._part("code"), self._part("type"))))

    @property
    def place(self) -> int | None:
        """The place of the input that it names."""
        found = _PLACE.match(self._part("param"))
        return None if found is None else int(found.group(1))

    @property
    def field(self) -> str | None:
        """The field of our request that it names."""
        head = re.split(r"[.\[]", self._part("param"), maxsplit=1)[0]
        name = _FIELDS.get(head, head)
        return name if name in _OWN_FIELDS else None


def is_well(status: int) -> bool:
    """Whether who answers so to a look can be asked: not every server has, or shows, such a list.

    A key may be good for answers and not for the list (403), a gateway may have none (404, 501).
    """
    return status != 401 and (status < 500 or status == 501)


def meaning(said: Said, endpoint: Endpoint) -> MillraceError:
    """The error that stands for it."""
    status = said.status or next(
        (_STATUS_OF_TYPE[kind] for kind in said.kinds if kind in _STATUS_OF_TYPE), 0
    )
    if status in _TO_MEND or 300 <= status < 400 or said.kinds & _NO_MONEY:
        return EndpointRefused(_to_mend(status, said, endpoint))
    if status == 500 and _TOO_LONG.search(said.words):  # llama.cpp, of an input
        return _about_the_request(status, said, endpoint)
    wait = wait_of(said.headers or {})
    if status == 429:
        return EngineFailed(f"{endpoint.address} limits the rate", RATE_LIMITED, wait)
    if status in (408, 409, 425) or status >= 500:
        return EngineFailed(f"{endpoint.address} answered {status}", UNAVAILABLE, wait)
    if status >= 400:
        return _about_the_request(status, said, endpoint)
    return EngineFailed(f"{endpoint.address} broke the answer off with an error")


def _to_mend(status: int, said: Said, endpoint: Endpoint) -> str:
    if said.kinds & _NO_MONEY or status == 402:
        return f"the account at {endpoint.address} of the key in {endpoint.key.where} is used up"
    if status in (401, 403):
        return f"{endpoint.address} refuses the key ({status}): look at {endpoint.key.where}"
    if status < 400:
        return f"{endpoint.address} answers with a redirection ({status}): look at `base_url`"
    return (
        f"{endpoint.address} knows no model {endpoint.model!r} ({status}): "
        "look at `name` and `base_url` in the models file"
    )


def _about_the_request(status: int, said: Said, endpoint: Endpoint) -> MillraceError:
    words = endpoint.key.hidden(said.words)[:_LONGEST] or f"the endpoint answered {status}"
    if status == 413 or said.kinds & _TOO_LONG_CODES or _TOO_LONG.search(said.words):
        return ContextTooLong(words, said.place)
    if said.kinds & _UNSUPPORTED and said.field is not None:
        return UnsupportedDemand(words, field=said.field)
    return InvalidRequest(words, field=said.field)
