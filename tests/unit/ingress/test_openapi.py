"""The OpenAPI document: every route says what it answers, and every reference leads somewhere."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import orjson
import pytest

from services.ingress.adapters.http.app import Parts, build_api
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.core.http.openapi import undescribed


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Of an application whose parts are never called."""
    parts = Parts(**{field.name: object() for field in dataclasses.fields(Parts)})
    return build_api(parts, Metrics()).openapi()


def test_every_operation_has_its_answers(document: dict[str, Any]) -> None:
    assert undescribed(document) == []


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    wanted = set(re.findall(r'"#/components/schemas/([^"]+)"', orjson.dumps(document).decode()))
    assert wanted <= document["components"]["schemas"].keys()
    assert "ValidationError" not in document["components"]["schemas"]


def test_errors_speak_the_words_of_their_path(document: dict[str, Any]) -> None:
    def error(path: str, method: str) -> dict[str, Any]:
        found: dict[str, Any] = document["paths"][path][method]["responses"]["default"]["content"]
        return found

    assert list(error("/v1/tasks", "post")) == ["application/problem+json"]
    chat = error("/v1/chat/completions", "post")["application/json"]["schema"]
    assert chat == {"$ref": "#/components/schemas/OpenAIError"}
    messages = error("/v1/messages", "post")["application/json"]["schema"]
    assert messages == {"$ref": "#/components/schemas/AnthropicError"}
    shared = error("/v1/models", "get")["application/json"]["schema"]
    assert len(shared["anyOf"]) == 2
