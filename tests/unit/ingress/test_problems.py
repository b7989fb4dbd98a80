"""Errors as HTTP."""

import orjson
import pytest

from services.ingress.core.http.problems import dialect_of, problem_of, status_of
from services.ingress.core.http.validation import failure_of_validation, may_nest, too_deep
from shared.errors import Failure


@pytest.mark.parametrize(
    ("code", "family", "status"),
    [
        ("invalid_name", "permanent", 422),
        ("unknown_agent", "permanent", 404),
        ("unknown_route", "permanent", 404),
        ("task_ended", "permanent", 409),
        ("payload_too_large", "permanent", 413),
        ("bus_unavailable", "transient", 503),
        ("no_responders", "transient", 503),
        ("request_timeout", "transient", 504),
        ("rate_limited", "transient", 429),
        ("internal", "broken", 500),
    ],
)
def test_status(code, family, status):
    assert status_of(Failure(code=code, family=family)) == status


def test_openai_paths_get_openais_error_object():
    failure = Failure(code="invalid_request", detail="no", field="messages")
    problem = problem_of(failure, "/v1/chat/completions", "abc")
    assert problem.media_type == "application/json"
    assert problem.body["error"] == {
        "message": "no",
        "type": "invalid_request_error",
        "code": "invalid_request",
        "param": "messages",
        "trace_id": "abc",
    }


def test_other_paths_get_problem_details():
    problem = problem_of(Failure(code="invalid_name", field="session"), "/v1/tasks", "abc")
    assert problem.media_type == "application/problem+json"
    assert set(problem.body) == {"type", "title", "status", "detail", "code", "field", "trace_id"}


def test_a_path_that_only_starts_alike_is_not_openais():
    assert "error" not in problem_of(Failure(code="x"), "/v1/modelsx", "").body


@pytest.mark.parametrize(
    ("path", "anthropic", "dialect"),
    [
        ("/v1/messages", False, "anthropic"),
        ("/v1/messages/count_tokens", False, "anthropic"),
        ("/v1/models", False, "openai"),
        ("/v1/models/agent:a", True, "anthropic"),
        ("/v1/chat/completions", True, "openai"),
        ("/v1/tasks", True, "millrace"),
        ("/v1/messagesx", False, "millrace"),
        ("/", False, "millrace"),
    ],
)
def test_a_path_speaks_one_dialect(path, anthropic, dialect):
    assert dialect_of(path, anthropic=anthropic) == dialect


def test_anthropics_error_object_and_its_statuses():
    failure = Failure(code="unknown_route", detail="no x")
    problem = problem_of(failure, "/v1/messages", "abc")
    assert problem.body == {
        "type": "error",
        "error": {
            "type": "not_found_error",
            "message": "no x",
            "code": "model_not_found",
            "param": "model",
            "trace_id": "abc",
            "details": {"error_code": "model_not_found"},
        },
        "request_id": "abc",
    }
    assert problem_of(Failure(code="invalid_name"), "/v1/messages", "").status == 400
    assert problem_of(Failure(code="invalid_name"), "/v1/tasks", "").status == 422


def test_retry_after_is_whole_seconds_and_at_least_one():
    failure = Failure(code="bus_unavailable", family="transient", retry_after=0.2)
    assert problem_of(failure, "/", "").headers == {"Retry-After": "1"}


def test_the_router_may_call_a_missing_model_what_it_likes():
    body = problem_of(Failure(code="unknown_route"), "/v1/chat/completions", "").body
    assert body["error"]["code"] == "model_not_found"


def test_of_a_union_the_member_that_got_furthest_names_the_field():
    errors = [
        {"type": "string_type", "loc": ("body", "input", "str"), "msg": "string"},
        {"type": "missing", "loc": ("body", "input", "list[MessageBody]", 0, "role"), "msg": "no"},
    ]
    assert failure_of_validation(errors).field == "input.0.role"


def test_nesting_is_bounded_and_names_the_field():
    value: object = 1
    for _ in range(70):
        value = [value]
    assert too_deep({"ok": 1, "tools": value}).field == "tools"
    assert too_deep({"tools": [[1]]}) is None


@pytest.mark.parametrize("brackets", ["[]", "{}", "mixed"])
def test_a_body_that_nests_too_deep_has_the_brackets_for_it(brackets):
    value: object = 1
    for level in range(65):
        as_list = level % 2 if brackets == "mixed" else brackets == "[]"
        value = [value] if as_list else {"a": value}
    assert too_deep(value) is not None
    assert may_nest(orjson.dumps(value))
    assert not may_nest(b'{"messages": [{"content": "x"}]}')
