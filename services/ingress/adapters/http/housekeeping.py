"""`/v1/dead`, and `DELETE /v1/sessions/{id}`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from services.ingress.adapters.http.request import CallerOf
from services.ingress.adapters.http.transport import Json, JsonRoute
from services.ingress.core.books.dead import letter_data, letter_line
from services.ingress.core.tasks.bodies import ByBody
from services.ingress.core.tasks.state import full
from services.ingress.ports import Housekeeping
from shared.contracts.base import SessionRef
from shared.contracts.dead import Wanted
from shared.subjects import check_session

Letter = Annotated[int, Path(ge=1, lt=2**63, description="the letter's id")]
Name = Annotated[str, Query(max_length=64)]


def dead_router(housekeeping: Housekeeping) -> APIRouter:
    """Messages that nobody could process: list, show, send again."""
    router = APIRouter(route_class=JsonRoute, tags=["Dead letters"])

    @router.get("/v1/dead", summary="Dead letters, page by page, without their bodies")
    async def letters(
        caller: CallerOf,
        session: Name = "",
        consumer: Name = "",
        code: Name = "",
        after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Response:
        wanted = Wanted(session=session, consumer=consumer, code=code)
        page = await housekeeping.letters(caller.tenant, wanted, after, limit)
        return Json({"letters": [letter_line(one) for one in page.letters], "next": page.next})

    @router.get("/v1/dead/{letter}", summary="A dead letter with its message and its tries")
    async def letter(letter: Letter, caller: CallerOf) -> Response:
        return Json(letter_data(await housekeeping.letter(caller.tenant, letter)))

    @router.post(
        "/v1/dead/{letter}/retry",
        status_code=202,
        summary="Send its message again, once however often this is called",
    )
    async def retry(letter: Letter, caller: CallerOf, body: ByBody | None = None) -> Response:
        by = body.by if body else ""
        retried = await housekeeping.retry(caller.tenant, letter, by)
        return Json({"id": letter, "retried": full(retried)}, 202)

    return router


def deletion_router(housekeeping: Housekeeping) -> APIRouter:
    """Forget a session."""
    router = APIRouter(route_class=JsonRoute, tags=["Sessions"])

    @router.delete("/v1/sessions/{session}", summary="Forget a session, everywhere and for good")
    async def delete(
        session: str,
        caller: CallerOf,
        force: Annotated[bool, Query(description="cancel its tasks that have not ended")] = False,
    ) -> Response:
        ref = SessionRef(caller.tenant, check_session(session))
        reply = await housekeeping.delete_session(ref, force=force, by="http")
        body = {"session": session, "sequence": reply.sequence, "complete": reply.complete}
        return Json(body, 200 if reply.complete else 202)

    return router
