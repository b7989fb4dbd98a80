"""What is refused before a handler sees it, and what operators see."""

from dataclasses import fields

import pytest

from services.ingress.adapters.http.app import Parts, build_api
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.settings import Settings
from shared.errors import Permanent, Transient

JSON = {"Content-Type": "application/json"}
TASK = {"agent": "assistant", "input": "hi"}


async def chunks(size):
    for _ in range(size // 1000):
        yield b" " * 1000


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/chat/completions"])
async def test_a_long_body_is_413_by_its_declared_length(http, path):
    response = await http.post(path, content=b" " * 5000, headers=JSON)
    assert response.status_code == 413
    assert "body_too_large" in response.text
    assert response.headers["x-trace-id"]


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/chat/completions"])
async def test_a_long_body_in_chunks_is_413_while_it_is_read(http, path):
    response = await http.post(path, content=chunks(6000), headers=JSON)
    assert response.status_code == 413
    assert "body_too_large" in response.text


async def test_a_long_document_in_chunks_is_413(http):
    response = await http.put(
        "/v1/collections/c/documents/d",
        content=chunks(6000),
        headers={"Content-Type": "text/plain"},
    )
    assert response.status_code == 413


@pytest.mark.parametrize("body", [b"{", b"", b'{"agent": NaN}', b'"\\ud800"', b"[" * 2000])
async def test_what_is_not_json_is_400_or_422(http, body):
    response = await http.post("/v1/tasks", content=body, headers=JSON)
    assert response.status_code == (422 if body == b"" else 400)
    assert response.json()["code"] == ("invalid_request" if body == b"" else "invalid_json")


async def test_a_body_that_is_no_object_is_422(http):
    response = await http.post("/v1/chat/completions", content=b"[1]", headers=JSON)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")


async def test_nesting_is_422_and_names_the_field(http):
    content = b'{"agent": "assistant", "input": ' + b"[" * 100 + b"]" * 100 + b"}"
    response = await http.post("/v1/tasks", content=content, headers=JSON)
    assert (response.status_code, response.json()["field"]) == (422, "input")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
async def test_a_body_must_say_that_it_is_json(http, kind):
    response = await http.post("/v1/tasks", content=b"{}", headers={"Content-Type": kind})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


async def test_unknown_paths_and_methods_are_problems(http):
    missing = await http.get("/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await http.put("/v1/tasks", json=TASK)
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


async def test_without_the_bus_it_is_503_with_retry_after(http, system):
    system.refuse = Transient("bus_unavailable", "no connection", retry_after=1.0)
    for response in (
        await http.post("/v1/tasks", json=TASK),
        await http.get("/v1/tasks/t1"),
        await http.post("/v1/chat/completions", json={"model": "m", "messages": [
            {"role": "user", "content": "hi"}]}),
    ):  # fmt: skip
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_a_bug_of_ours_tells_nothing_but_the_trace(http, system):
    system.refuse = KeyError("secret")
    response = await http.post("/v1/tasks", json=TASK)
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret" not in response.text
    assert response.json()["trace_id"] == response.headers["x-trace-id"]


async def test_web_pages_may_not_call(http):
    response = await http.get("/v1/models", headers={"Origin": "https://elsewhere.example"})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "foreign_origin")
    response = await http.get("/v1/models", headers={"Host": "elsewhere.example"})
    assert response.status_code == 421
    assert (await http.get("/v1/models", headers={"Host": "localhost:8080"})).status_code == 200
    local = {"Origin": "http://localhost:3000"}
    assert (await http.get("/v1/models", headers=local)).status_code == 200


async def test_readiness_names_what_is_missing(http, system):
    assert (await http.get("/readyz")).json() == {"status": "ready", "missing": []}
    system.away = ["router", "worker"]
    response = await http.get("/readyz")
    assert (response.status_code, response.json()["missing"]) == (503, ["router", "worker"])
    assert (await http.get("/healthz")).status_code == 200


async def test_metrics_count_requests_by_route(http):
    await http.get("/v1/tasks/nobody")
    await http.get("/v1/sessions/nobody/history")
    await http.get("/nowhere")
    text = (await http.get("/metrics")).text
    counted = 'millrace_http_requests_total{method="GET",route="%s",status="404"}'
    for route in ("/v1/tasks/{task}", "/v1/sessions/{session}/history", "unmatched"):
        assert counted % route in text
    assert 'millrace_http_streams_open{kind="task"} 0.0' in text


async def test_the_page_says_what_runs_and_what_is_missing(http, system):
    system.away = ["<worker>"]
    text = (await http.get("/")).text
    assert "agent:assistant" in text
    assert "&lt;worker&gt;" in text
    assert "curl -s http://127.0.0.1/v1/tasks" in text
    assert "/docs" in text


async def test_documents_over_http(http):
    url = "/v1/collections/handbook/documents/guide/intro.md"
    put = await http.put(url, json={"text": "Opens at nine.", "metadata": {"lang": "en"}})
    assert put.json() == {"collection": "handbook", "document": "guide/intro.md", "sequence": 1}
    assert (await http.get(url)).json()["metadata"] == {"lang": "en"}
    listed = await http.get("/v1/collections/handbook/documents")
    assert listed.json()["documents"] == ["guide/intro.md"]
    found = await http.post("/v1/collections/handbook/search", json={"query": "nine", "limit": 1})
    assert found.json()["results"][0]["document"] == "guide/intro.md"
    assert found.json()["results"][0]["highlight"] == ""
    asked = {"query": "nine", "highlight": True}
    marked = await http.post("/v1/collections/handbook/search", json=asked)
    assert marked.json()["results"][0]["highlight"] == "Opens at nine."
    assert (await http.delete(url)).status_code == 200
    assert (await http.get(url)).status_code == 404
    assert (await http.delete(url)).status_code == 404


@pytest.mark.parametrize("kind", ["text/plain", "text/markdown; charset=utf-8"])
async def test_a_document_may_be_text(http, kind):
    url = "/v1/collections/c/documents/d"
    await http.put(url, content="# Größe".encode(), headers={"Content-Type": kind})
    assert (await http.get(url)).json()["text"] == "# Größe"


@pytest.mark.parametrize(
    ("kind", "content", "status", "code"),
    [
        ("text/plain", b"\xff", 400, "invalid_encoding"),
        ("text/plain", b"", 422, "invalid_request"),
        ("application/json", b"{", 400, "invalid_json"),
        ("application/json", b'{"text": 5}', 422, "invalid_request"),
        ("application/pdf", b"%PDF", 415, "unsupported_media_type"),
    ],
)
async def test_a_bad_document_is_refused(http, kind, content, status, code):
    response = await http.put(
        "/v1/collections/c/documents/d", content=content, headers={"Content-Type": kind}
    )
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_a_bad_search_names_the_field(http):
    response = await http.post("/v1/collections/c/search", json={"query": "x", "mode": "sparse"})
    assert (response.status_code, response.json()["field"]) == (422, "mode")


def test_the_openapi_document_has_every_path(system):
    names = (field.name for field in fields(Parts))
    parts = Parts(**dict.fromkeys(names, system))
    paths = build_api(parts, Metrics()).openapi()["paths"]
    assert "/v1/chat/completions" in paths
    assert "requestBody" in paths["/v1/tasks"]["post"]
    assert set(paths["/v1/schedules/{name}"]) == {"put", "get", "delete"}
    for verb in ("cancel", "steer", "approve", "reject", "retry"):
        assert set(paths[f"/v1/tasks/{{task}}/{verb}"]) == {"post"}
    content = paths["/v1/collections/{collection}/documents/{document}"]["put"]["requestBody"]
    assert set(content["content"]) == {"application/json", "text/plain", "text/markdown"}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_auth_may_be_off_on_loopback(host):
    Settings(http_host=host).check_auth()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "millrace.example", "::"])  # noqa: S104
def test_auth_may_not_be_off_elsewhere(host):
    with pytest.raises(Permanent, match="auth_required"):
        Settings(http_host=host).check_auth()


def test_with_keys_any_address_may_be_listened_on():
    Settings(http_host="0.0.0.0", auth="keys").check_auth()  # noqa: S104
    with pytest.raises(Permanent, match="auth_required"):
        Settings(http_host="0.0.0.0", auth="off").check_auth()  # noqa: S104
