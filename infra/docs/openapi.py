"""The OpenAPI document of the ingress, as `/openapi.json` serves it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from services.ingress.adapters.http.app import Parts, build_api
from services.ingress.adapters.http.metrics import Metrics


def openapi() -> dict[str, Any]:
    """Of the application; the parts behind its routes are not needed for what they promise."""
    parts: dict[str, Any] = {field.name: object() for field in fields(Parts)}
    return build_api(Parts(**parts), Metrics()).openapi()
