"""The ASGI application: routers, error answers, and the layers around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from services.ingress.adapters.http.chat import chat_router, models_router
from services.ingress.adapters.http.control import control_router
from services.ingress.adapters.http.conversations import conversations_router, items_router
from services.ingress.adapters.http.documents import documents_router
from services.ingress.adapters.http.errors import install
from services.ingress.adapters.http.express import Express
from services.ingress.adapters.http.forks import forks_router
from services.ingress.adapters.http.housekeeping import dead_router, deletion_router
from services.ingress.adapters.http.keys import keys_router
from services.ingress.adapters.http.messages import messages_router
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.middleware import (
    BODIES,
    Bodies,
    BodyLimit,
    LocalOnly,
    Measured,
    Trace,
)
from services.ingress.adapters.http.operations import operations_router
from services.ingress.adapters.http.recording import Note, Recording
from services.ingress.adapters.http.responses import responses_router, stored_router
from services.ingress.adapters.http.responses_socket import responses_socket_router
from services.ingress.adapters.http.schedules import schedules_router
from services.ingress.adapters.http.socket import socket_router
from services.ingress.adapters.http.streams import Streams
from services.ingress.adapters.http.tasks import events_router, sessions_router, tasks_router
from services.ingress.adapters.http.usage import lists_router, usage_router
from services.ingress.core.http.openapi import completed
from services.ingress.core.tasks import socket
from services.ingress.handlers.socket import SocketHandlers
from services.ingress.handlers.usage import UsageHandlers
from services.ingress.ports import (
    Catalog,
    ChatApi,
    ControlApi,
    ConversationsApi,
    Documents,
    EmbeddingsApi,
    Health,
    Housekeeping,
    KeyStore,
    MessagesApi,
    ResponsesApi,
    SchedulesApi,
    TasksApi,
)

if TYPE_CHECKING:
    from shared.otlp.sdk import Spans


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of."""

    chat: ChatApi
    messages: MessagesApi
    tasks: TasksApi
    control: ControlApi
    responses: ResponsesApi
    conversations: ConversationsApi
    keys: KeyStore
    schedules: SchedulesApi
    embeddings: EmbeddingsApi
    documents: Documents
    housekeeping: Housekeeping
    usage: UsageHandlers
    catalog: Catalog
    health: Health
    spans: Spans | None = None
    """What hears of every request, where anybody wants traces."""


def build_api(parts: Parts, metrics: Metrics) -> FastAPI:
    """The routes alone; their OpenAPI document comes from here."""
    api = FastAPI(
        title="Millrace",
        summary="OpenAI- and Anthropic-compatible completions and durable agent tasks",
        description=f"## WebSocket\n\n{socket.__doc__}",
        version="0.1.0",
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours are elsewhere
    )
    api.include_router(chat_router(parts.chat, metrics))
    api.include_router(messages_router(parts.messages, metrics))
    api.include_router(responses_router(parts.responses, metrics))
    api.include_router(stored_router(parts.responses))
    api.include_router(responses_socket_router(parts.responses, metrics))
    api.include_router(conversations_router(parts.conversations))
    api.include_router(items_router(parts.conversations))
    api.include_router(models_router(parts.catalog, parts.embeddings))
    api.include_router(tasks_router(parts.tasks))
    api.include_router(lists_router(parts.usage))
    api.include_router(usage_router(parts.usage))
    api.include_router(control_router(parts.tasks, parts.control))
    api.include_router(schedules_router(parts.schedules))
    api.include_router(events_router(parts.tasks, metrics))
    api.include_router(sessions_router(parts.tasks))
    api.include_router(
        socket_router(parts.tasks, SocketHandlers(parts.tasks, parts.control), metrics)
    )
    api.include_router(forks_router(parts.tasks))
    api.include_router(deletion_router(parts.housekeeping))
    api.include_router(documents_router(parts.documents))
    api.include_router(dead_router(parts.housekeeping))
    api.include_router(keys_router(parts.keys))
    api.include_router(operations_router(parts.health, parts.catalog, metrics))
    install(api)
    written = api.openapi

    def openapi() -> dict[str, Any]:
        """The document, written once."""
        return api.openapi_schema or completed(written())

    api.openapi = openapi  # type: ignore[method-assign]  # the way that the framework documents
    return api


Guard = Callable[[ASGIApp], ASGIApp]
"""Puts around an application who is let in."""


def build(
    parts: Parts,
    *,
    host: str,
    bodies: Bodies = BODIES,
    streams: Streams | None = None,
    guard: Guard | None = None,
    note: Note | None = None,
) -> ASGIApp:
    """The whole application; without a guard this machine's own programs are let in.

    `streams` are what the server ends when it shuts down; `note` hears of what was refused.
    """
    metrics = Metrics()
    api = build_api(parts, metrics)
    api.state.streams = Streams() if streams is None else streams
    inner = BodyLimit(Express(api), bodies)
    guarded = LocalOnly(inner, host) if guard is None else guard(inner)
    recording = None if note is None else Recording(note, open_=guard is None)
    return Trace(Measured(guarded, metrics, recording), parts.spans)
