"""schemathesis over the OpenAPI document of a running system: it promises what it keeps.

Good and bad requests are made from the document itself, with a fixed seed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from tests.integration.ingress_system import Ingress
from tests.integration.instant_system import instant_system

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.unsupported_method,
]
EXAMPLES = 8
ENDLESS = "GET /v1/sessions/{session}/events"
"""A good request for it is answered for ever: `test_eventsource` reads it."""
CHAT = {"model": "default", "messages": [{"role": "user", "content": "steps 0"}]}
TASK = {"agent": "assistant", "input": "steps 1", "session": "s1"}
TOLD = {"model": "default", "max_tokens": 9, "messages": [{"role": "user", "content": "steps 0"}]}
GOOD: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("POST", "/v1/chat/completions", "", CHAT),
    ("POST", "/v1/chat/completions", "", CHAT | {"model": "agent:assistant"}),
    ("POST", "/v1/messages", "", TOLD),
    ("POST", "/v1/embeddings", "", {"model": "all-MiniLM-L6-v2", "input": "wheel"}),
    ("GET", "/v1/models", "", None),
    ("GET", "/v1/models/{model}", "/v1/models/default", None),
    ("POST", "/v1/tasks", "", TASK),
    ("GET", "/v1/sessions/{session}", "/v1/sessions/s1", None),
    ("GET", "/v1/sessions/{session}/history", "/v1/sessions/s1/history", None),
    ("PUT", "/v1/schedules/{name}", "/v1/schedules/n", TASK | {"every_s": 3600}),
    ("GET", "/v1/schedules/{name}", "/v1/schedules/n", None),
    ("GET", "/v1/schedules", "", None),
    ("DELETE", "/v1/schedules/{name}", "/v1/schedules/n", None),
    ("GET", "/v1/dead", "", None),
    ("GET", "/v1/usage", "/v1/usage?by=agent,model", None),
    ("GET", "/v1/requests", "", None),
    ("GET", "/v1/tasks", "", None),
    ("GET", "/v1/sessions", "", None),
]
"""Method, path, the same with its names filled in, body."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingress]:
    async with instant_system(tmp_path_factory.mktemp("openapi")) as running:
        yield running


async def test_every_operation_keeps_what_the_document_promises(front: Ingress) -> None:
    await asyncio.to_thread(try_all, f"{front.url}/openapi.json")


def try_all(url: str) -> None:
    schema = schemathesis.openapi.from_url(url)
    for found in schema.get_all_operations():
        operation = found.ok()
        modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        for mode in modes[operation.label == ENDLESS :]:
            try:
                tried(operation.as_strategy(generation_mode=mode))
            except Unsatisfiable:
                continue  # nothing can be wrong with a request that takes nothing


def tried(cases: SearchStrategy[schemathesis.Case]) -> None:
    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=cases)
    def answers(case: schemathesis.Case) -> None:
        answer = case.call(timeout=30)
        case.validate_response(answer, checks=[one for one in CHECKS if fits(one, case)])

    answers()


def fits(check: object, case: schemathesis.Case) -> bool:
    """A number in the place of a text is no wrong type: what is sent is a text, too."""
    text = (case.media_type or "").startswith("text/") and not isinstance(case.body, str)
    return not (text and check is checks.negative_data_rejection)


@pytest.mark.parametrize(("method", "path", "filled", "body"), GOOD)
async def test_a_good_answer_has_the_shape_that_is_written_down(
    front: Ingress, method: str, path: str, filled: str, body: dict[str, Any] | None
) -> None:
    """Random requests seldom get so far."""
    schema = await asyncio.to_thread(schemathesis.openapi.from_url, f"{front.url}/openapi.json")
    answer: httpx.Response = await front.http.request(method, filled or path, json=body)
    assert answer.status_code < 300, answer.text
    schema[path][method].validate_response(answer)
