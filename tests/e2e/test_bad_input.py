"""Bad input gets a typed error that says what to do; nothing hangs, nobody else is affected."""

from __future__ import annotations

import httpx
import nats
import orjson
import pytest

from shared.client import Millrace
from shared.contracts.facts import Done
from shared.errors import Permanent
from tests.e2e.running import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


async def _done(system: System, session: str, subject: str, body: bytes) -> dict[str, object]:
    """Publish a raw task; its `done` fact."""
    nc = await nats.connect(system.nats_url, token=system.token)
    done = await nc.subscribe(f"run.*.default.{session}.done.*")
    await nc.publish(subject, body)
    fact: dict[str, object] = orjson.loads((await done.next_msg(30)).data)
    await nc.close()
    return fact


@pytest.mark.parametrize(
    "body", [b"{not json", b"\xff\xfe\x00", b"[]", b'{"inptu": "x"}', b'{"input": 7}', b""]
)
async def test_malformed_task_ends_in_a_typed_failure(system: System, body: bytes) -> None:
    session = f"bad-{abs(hash(body))}"
    fact = await _done(system, session, f"tasks.default.assistant.{session}", body)
    assert fact["status"] == "failed"
    assert fact["error"]["code"] == "invalid_task"  # type: ignore[index]
    assert fact["error"]["detail"]  # type: ignore[index]


async def test_malformed_task_becomes_a_dead_letter(system: System) -> None:
    await _done(system, "bad-dead", "tasks.default.assistant.bad-dead", b"{oops")
    nc = await nats.connect(system.nats_url, token=system.token)
    letter = await nc.jetstream().get_last_msg("DEAD", "dead.default.bad-dead.>")
    await nc.close()
    assert orjson.loads(letter.data)["body"] == "{oops"


async def test_unknown_agent_over_nats(system: System) -> None:
    fact = await _done(system, "noagent", "tasks.default.nobody.noagent", b'{"input": "x"}')
    assert fact["error"]["code"] == "unknown_agent"  # type: ignore[index]
    assert fact["error"]["field"] == "agent"  # type: ignore[index]


async def test_a_bad_session_name_is_refused_before_it_is_sent(system: System) -> None:
    async with Millrace.connect(data=system.data) as m:
        with pytest.raises(Permanent) as refused:
            await m.submit("assistant", "x", session="a.b")
    assert (refused.value.code, refused.value.field) == ("invalid_name", "session")


def _post(system: System, path: str, **options: object) -> httpx.Response:
    return httpx.post(system.http_url + path, timeout=20, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"agent": "nobody", "input": "x"}, 404, "unknown_agent", "agent"),
        ({"agent": "assistant", "input": "x", "session": "a.b"}, 422, "invalid_name", "session"),
        ({"agent": "assistant"}, 422, "invalid_request", "input"),
        ({"agent": "assistant", "input": 5}, 422, "invalid_request", "input"),
    ],
)
def test_http_tasks_name_the_field(
    system: System, body: dict[str, object], status: int, code: str, field: str
) -> None:
    answer = _post(system, "/v1/tasks", json=body)
    problem = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert (problem["code"], problem["field"]) == (code, field)
    assert len(problem["trace_id"]) == 32


def test_http_malformed_json(system: System) -> None:
    headers = {"Content-Type": "application/json"}
    answer = _post(system, "/v1/tasks", content=b'{"agent": ', headers=headers)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_json"


def test_http_oversized_body(system: System) -> None:
    body = {"agent": "assistant", "input": "x" * 17_000_000}
    answer = _post(system, "/v1/tasks", json=body)
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


def test_unknown_model_is_an_openai_error(system: System) -> None:
    body = {"model": "gpt-17", "messages": [{"role": "user", "content": "x"}]}
    answer = _post(system, "/v1/chat/completions", json=body)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_a_prompt_beyond_the_context_fails_its_own_task_only(system: System) -> None:
    async with Millrace.connect(data=system.data) as m:
        long = await m.submit("plain", "word " * 20_000, session="long")
        fine = await m.submit("assistant", "What is 9 * 9?", session="beside-long")
        refused: Done = await long.result(40)
        assert "81" in (await fine.result(40)).output
    assert refused.status == "failed"
    assert refused.error is not None
    assert refused.error.code == "context_too_long"
