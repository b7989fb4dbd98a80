"""`/v1/collections`: documents in, passages out."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.responses import Response

from services.ingress.adapters.http.request import CallerOf
from services.ingress.adapters.http.transport import Json, JsonRoute
from services.ingress.core.http.validation import too_deep
from services.ingress.core.tasks.bodies import DocumentBody, SearchBody
from services.ingress.core.tasks.state import full
from services.ingress.ports import Documents, Query
from shared.errors import Permanent, error_of

_TEXT_TYPES = ("text/plain", "text/markdown")
_PUT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": DocumentBody.model_json_schema()},
            **{kind: {"schema": {"type": "string"}} for kind in _TEXT_TYPES},
        },
    }
}
_PATH = "/v1/collections/{collection}/documents"


def documents_router(documents: Documents) -> APIRouter:
    """Store, read, remove, search."""
    router = APIRouter(route_class=JsonRoute, tags=["Documents"])

    @router.put(_PATH + "/{document:path}", summary="Store a document", openapi_extra=_PUT_BODY)
    async def put(collection: str, document: str, request: Request, caller: CallerOf) -> Response:
        body = await _document_body(request)
        sequence = await documents.put(
            caller.tenant, collection, _named(document), body.text, body.metadata
        )
        return Json({"collection": collection, "document": document, "sequence": sequence})

    @router.get(_PATH, summary="The ids of a collection's documents")
    async def ids(collection: str, caller: CallerOf) -> Response:
        found = await documents.list(caller.tenant, collection)
        return Json({"collection": collection, "documents": list(found)})

    @router.get(_PATH + "/{document:path}", summary="A document")
    async def get(collection: str, document: str, caller: CallerOf) -> Response:
        found = await documents.get(caller.tenant, collection, _named(document))
        if found is None:
            raise _unknown(document)
        body = {"collection": collection, "document": document, "text": found.text}
        return Json(body | {"metadata": found.metadata})

    @router.delete(_PATH + "/{document:path}", summary="Remove a document")
    async def delete(collection: str, document: str, caller: CallerOf) -> Response:
        if await documents.get(caller.tenant, collection, _named(document)) is None:
            raise _unknown(document)
        sequence = await documents.delete(caller.tenant, collection, document)
        return Json({"collection": collection, "document": document, "sequence": sequence})

    @router.post("/v1/collections/{collection}/search", summary="Passages that answer a query")
    async def search(collection: str, body: SearchBody, caller: CallerOf) -> Response:
        query = Query(body.query, body.limit, body.min_score, body.min_seq, body.highlight)
        reply = await documents.search(caller.tenant, collection, query)
        return Json({"results": full(reply.results), "watermark": reply.watermark})

    return router


def _named(document: str) -> str:
    if not document or len(document) > 512 or not document.isprintable():
        detail = "a document id has 1 to 512 printable characters"
        raise Permanent("invalid_name", detail, field="document")
    return document


def _unknown(document: str) -> Permanent:
    return Permanent("unknown_document", f"there is no document {document!r}", field="document")


async def _document_body(request: Request) -> DocumentBody:
    """The document, as JSON or as text of its own."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    data = await request.body()
    if kind in _TEXT_TYPES:
        return _validated({"text": _utf8(data)})
    if kind != "application/json":
        raise Permanent(
            "unsupported_media_type",
            f"send application/json, {' or '.join(_TEXT_TYPES)}, not {kind[:80]!r}",
            field="Content-Type",
        )
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Permanent("invalid_json", f"the body is not JSON: {error}") from error
    if (failure := too_deep(value)) is not None:
        raise error_of(failure)
    return _validated(value)


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Permanent("invalid_encoding", "the text is not UTF-8") from error


def _validated(value: object) -> DocumentBody:
    try:
        return DocumentBody.model_validate(value)
    except ValidationError as error:
        errors = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(errors) from error
