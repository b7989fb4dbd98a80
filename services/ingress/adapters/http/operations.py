"""What operators ask for: liveness, readiness, metrics, and a page that says what runs here."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.page import render
from services.ingress.adapters.http.request import known_models
from services.ingress.adapters.http.transport import Json
from services.ingress.ports import Catalog, Health
from shared.errors import MillraceError


def operations_router(health: Health, catalog: Catalog, metrics: Metrics) -> APIRouter:
    """Health, metrics, the first page."""
    router = APIRouter(tags=["Operations"])

    @router.get("/healthz", summary="This process lives")
    async def healthz() -> Response:
        return Json({"status": "ok"})

    @router.get("/readyz", summary="Everything that requests need is there")
    async def readyz() -> Response:
        missing = await health.missing()
        if missing:
            body = {"status": "waiting", "missing": missing}
            return Json(body, 503, {"Retry-After": "1"})
        return Json({"status": "ready", "missing": []})

    @router.get("/metrics", summary="Prometheus")
    async def metrics_text() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        try:
            known = await known_models(catalog, "default")
        except MillraceError:
            known = []  # the page says below what is missing
        url = str(request.base_url).rstrip("/")
        return HTMLResponse(render(known, await health.missing(), url))

    return router
