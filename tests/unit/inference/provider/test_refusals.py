"""What an endpoint's errors become, and what is never told of them."""

from __future__ import annotations

import pytest

from services.inference.adapters.provider.key import Key
from services.inference.adapters.provider.refusals import Endpoint, Said, meaning
from services.inference.ports import ContextTooLong, EndpointRefused, EngineFailed, InvalidRequest

SECRET = "sk-" + "very-secret"
ENDPOINT = Endpoint("api.there", "gpt", Key("the variable THERE_KEY", lambda: SECRET))


def of(status: int, message: str = "", headers: dict[str, str] | None = None, **more: object):
    return meaning(Said(status, {"error": {"message": message, **more}}, headers), ENDPOINT)


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "This model's maximum context length is 4097 tokens.", "context_length_exceeded"),
        (400, "This model's maximum context length is 8 tokens. However, you requested 9", None),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", None),
        (400, "request (9 tokens) exceeds the available context size (8 tokens)", None),
        (400, "input length and `max_tokens` exceed context limit: 1 + 2 > 2", "context_too_long"),
        (400, "The input token count (9) exceeds the maximum number of tokens allowed (8).", None),
        (413, "Request exceeds the maximum size", None),
        (422, "the prompt has 9 tokens, the model takes 8", "context_too_long"),
    ],
)
def test_a_prompt_that_is_too_long(status, message, code) -> None:
    error = of(status, message, code=code)
    assert isinstance(error, ContextTooLong)
    assert message[:20] in error.detail


def test_a_bound_of_the_answer_is_no_prompt_that_is_too_long() -> None:
    error = of(400, "max_tokens is too large: 9. This model supports at most 8", param="max_tokens")
    assert (error.code, error.field) == ("invalid_request", "max_tokens")


def test_a_bad_request_names_the_field_as_we_do() -> None:
    error = of(400, "Unsupported value", param="max_completion_tokens")
    assert isinstance(error, InvalidRequest)
    assert (error.detail, error.field) == ("Unsupported value", "max_tokens")
    assert of(422, "bad", param="messages[1].content").field == "messages"
    assert of(400, "bad", param="prompt_cache_key").field is None
    assert of(400).detail == "the endpoint answered 400"


def test_what_the_endpoint_cannot_do_is_said_as_such_where_it_names_it() -> None:
    error = of(400, "no top_k here", code="unsupported_parameter", param="top_k")
    assert (error.code, error.field) == ("unsupported_demand", "top_k")
    assert of(400, "no", code="unsupported_value", param="store").code == "invalid_request"


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_named_by_its_place(status) -> None:
    error = of(status, f"Incorrect API key provided: {SECRET} of org-acme")
    assert isinstance(error, EndpointRefused)
    assert (error.code, error.family) == ("endpoint_refused", "broken")
    assert "THERE_KEY" in error.detail
    assert "org-acme" not in str(error)


@pytest.mark.parametrize(
    ("status", "more"),
    [(402, {}), (429, {"code": "insufficient_quota"}), (0, {"type": "billing_error"})],
)
def test_an_account_without_money_is_for_its_owner_to_mend(status, more) -> None:
    error = of(status, "You exceeded your current quota", **more)
    assert isinstance(error, EndpointRefused)
    assert "used up" in error.detail


def test_a_model_that_is_not_there_is_named() -> None:
    error = of(404, "The model `gpt` does not exist")
    assert isinstance(error, EndpointRefused)
    assert "'gpt'" in error.detail


def test_a_redirection_is_not_followed_with_the_key() -> None:
    error = of(307)
    assert isinstance(error, EndpointRefused)
    assert "base_url" in error.detail


def test_a_limited_rate_says_when_to_come_back() -> None:
    error = of(429, "Rate limit reached in organization org-acme", {"Retry-After": "7"})
    assert isinstance(error, EngineFailed)
    assert (error.code, error.retry_after) == ("provider_rate_limited", 7.0)
    assert "org-acme" not in error.detail


@pytest.mark.parametrize("status", [408, 500, 502, 503, 529])
def test_a_server_in_trouble_is_a_failure_for_the_moment(status) -> None:
    error = of(status, "stack trace")
    assert isinstance(error, EngineFailed)
    assert (error.code, error.family) == ("provider_unavailable", "transient")
    assert "stack" not in error.detail


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", "provider_unavailable"),
        ("rate_limit_error", "provider_rate_limited"),
        ("authentication_error", "endpoint_refused"),
        ("invalid_request_error", "invalid_request"),
        ("something_new", "engine_failed"),
    ],
)
def test_an_error_inside_a_stream_is_known_by_its_type(kind, code) -> None:
    assert of(0, "x", type=kind).code == code


@pytest.mark.parametrize("body", [None, "<html>", b"", [], {"error": "no"}, {"detail": 3}])
def test_a_body_of_no_known_form_does_no_harm(body) -> None:
    assert meaning(Said(400, body), ENDPOINT).code == "invalid_request"


def test_a_key_that_the_endpoint_repeats_is_not_told_and_no_novel_is() -> None:
    error = of(400, f"the header {SECRET}\n is " + "x" * 1000)
    assert SECRET not in str(error)
    assert "***" in error.detail
    assert len(error.detail) <= 300


def test_a_key_at_the_border_of_what_is_told_is_not_told_in_part() -> None:
    error = of(400, "x" * (300 - len(SECRET) + 3) + SECRET)
    assert SECRET[:8] not in str(error)
