"""`/v1/keys`: the API keys of a tenant. With authentication it takes a key of the scope admin."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.ingress.adapters.http.request import CallerOf
from services.ingress.adapters.http.transport import Json, JsonRoute
from services.ingress.core.access.bodies import KeyBody, RotateBody, issued_json, key_json
from services.ingress.ports import KeyStore
from shared.clock import now

_UNSTORED = {"Cache-Control": "no-store"}


def keys_router(keys: KeyStore) -> APIRouter:
    """Make, list, show, revoke, rotate."""
    router = APIRouter(route_class=JsonRoute, tags=["Keys"])

    @router.post("/v1/keys", status_code=201, summary="Make an API key; its secret is shown once")
    async def create(caller: CallerOf, body: KeyBody | None = None) -> Response:
        order = (body or KeyBody()).as_order(now())
        issued = await keys.create(caller.tenant, order)
        headers = _UNSTORED | {"Location": f"/v1/keys/{issued.key.id}"}
        return Json(issued_json(issued, now()), 201, headers)

    @router.get("/v1/keys", summary="The keys of the tenant, without their secrets")
    async def list_keys(caller: CallerOf) -> Response:
        found = await keys.list(caller.tenant)
        return Json({"keys": [key_json(one, now()) for one in found]})

    @router.get("/v1/keys/{key}", summary="One of them")
    async def show(key: str, caller: CallerOf) -> Response:
        return Json(key_json(await keys.get(caller.tenant, key), now()))

    @router.delete("/v1/keys/{key}", summary="Revoke a key, at every replica")
    async def revoke(key: str, caller: CallerOf) -> Response:
        return Json(key_json(await keys.revoke(caller.tenant, key), now()))

    @router.post("/v1/keys/{key}/rotate", summary="Give a key a new secret")
    async def rotate(key: str, caller: CallerOf, body: RotateBody | None = None) -> Response:
        issued = await keys.rotate(caller.tenant, key, (body or RotateBody()).overlap_s)
        return Json(issued_json(issued, now()), headers=_UNSTORED)

    return router
