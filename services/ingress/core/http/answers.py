"""What the routes answer with, as JSON schemas: for the OpenAPI document, never on a request's way.

One table from an operation to its good answers; errors are the same everywhere and stand in
`openapi`. A test holds every route of the application against it, and another one the answers of a
running system.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
TIME: Schema = {"type": "number", "description": "epoch seconds"}
MONEY: Schema = {"type": "integer", "description": "millionths of a cent"}
DECIMAL: Schema = {"type": "string", "description": "the same in the currency, no digit lost"}
STATE: Schema = {
    "type": "string",
    "enum": ["queued", "running", "parked", "completed", "failed", "cancelled"],
}
TEXTS: Schema = {"type": "object", "additionalProperties": STRING}


def ref(name: str) -> Schema:
    """A named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def many(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def maybe(schema: Schema) -> Schema:
    """Or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def just(*values: str) -> Schema:
    """One of some words."""
    return {"type": "string", "enum": list(values)}


def shape(optional: dict[str, Schema] | None = None, /, **fields: Schema) -> Schema:
    """An object: what must be there, and what may."""
    return {
        "type": "object",
        "properties": fields | (optional or {}),
        "required": list(fields),
    }


SCHEMAS: dict[str, Schema] = {
    "Problem": shape(
        {"field": STRING},
        type=STRING,
        title=STRING,
        status=INTEGER,
        detail=STRING,
        code=STRING,
        trace_id=STRING,
    ),
    "OpenAIError": shape(
        error=shape(message=STRING, type=STRING, code=STRING, param=maybe(STRING), trace_id=STRING)
    ),
    "AnthropicError": shape(
        type=just("error"),
        error=shape(message=STRING, type=STRING, code=STRING, trace_id=STRING),
        request_id=STRING,
    ),
    "ApiKey": shape(
        id=STRING,
        tenant=STRING,
        name=STRING,
        state=just("active", "expired", "revoked"),
        scopes=many(STRING),
        models=many(STRING),
        created=TIME,
        expires=maybe(TIME),
        revoked=maybe(TIME),
        old_secret_until=maybe(TIME),
        limits={"type": "object"},
    ),
    "Failure": shape(code=STRING, family=STRING, detail=STRING),
    "Usage": shape({"reasoning": INTEGER}, input=INTEGER, cached=INTEGER, output=INTEGER),
    "Totals": shape(
        steps=INTEGER, infer_steps=INTEGER, tool_steps=INTEGER, usage=ref("Usage"), price=MONEY
    ),
    "Latency": shape(count=INTEGER, mean_ms=NUMBER, p50_ms=NUMBER, p95_ms=NUMBER, max_ms=NUMBER),
    "UsageNumbers": shape(
        dict.fromkeys(("tenant", "day", "agent", "model", "session", "task", "key"), STRING),
        calls=INTEGER,
        input_tokens=INTEGER,
        cached_tokens=INTEGER,
        output_tokens=INTEGER,
        price=MONEY,
        cost=DECIMAL,
        latency=ref("Latency"),
    ),
    "Budget": shape(
        of=just("tenant", "key"),
        period=just("day", "month"),
        limit=MONEY,
        spent=maybe(MONEY),
        left=maybe(MONEY),
        resets=TIME,
    ),
    "RequestLine": shape(
        id=STRING,
        kind=just("task", "completion", "embedding", "refused"),
        sequence=INTEGER,
        time=TIME,
        status=STATE,
        **dict.fromkeys(("session", "agent", "route", "model", "worker", "error_code"), STRING),
        usage=ref("Usage"),
        price=MONEY,
        cost=DECIMAL,
        currency=STRING,
        latency_ms=NUMBER,
        first_token_ms=NUMBER,
        trace_id=STRING,
        user=STRING,
        key=STRING,
        metadata=TEXTS,
        count=INTEGER,
        until=TIME,
        http_status=INTEGER,
    ),
    "TaskLine": shape(
        task=STRING,
        session=STRING,
        agent=STRING,
        status=STATE,
        sequence=INTEGER,
        submitted=TIME,
        accepted=TIME,
        done=TIME,
        queue_ms=NUMBER,
        **dict.fromkeys(("revision", "steps", "infer_steps", "tool_steps"), INTEGER),
        usage=ref("Usage"),
        price=MONEY,
        cost=DECIMAL,
        currency=STRING,
        **dict.fromkeys(("error_code", "input", "output"), STRING),
    ),
    "SessionLine": shape(
        session=STRING,
        state=just("running", "idle"),
        sequence=INTEGER,
        opened=TIME,
        touched=TIME,
        agent=STRING,
        tasks=INTEGER,
        open_tasks=INTEGER,
    ),
    "TaskLinks": shape(task=STRING, session=STRING, events=STRING),
    "Recorded": shape(task=STRING, session=STRING, sequence=INTEGER),
    "Task": shape(
        task=STRING,
        session=STRING,
        agent=maybe(STRING),
        state=just("queued", "running", "parked", "completed", "failed", "cancelled"),
        input=ANYTHING,
        output=maybe(STRING),
        error=maybe(ref("Failure")),
        created=maybe(TIME),
        started=maybe(TIME),
        finished=maybe(TIME),
        totals=ref("Totals"),
        steps=many({"type": "object"}),
        waits_for=many({"type": "object"}),
        notes=many({"type": "object"}),
        trace_id=STRING,
    ),
    "Session": shape(
        session=STRING,
        state=just("running", "idle"),
        created=TIME,
        updated=TIME,
        seq=INTEGER,
        tasks=many({"type": "object"}),
    ),
    "Fact": shape(seq=INTEGER, kind=STRING, time=TIME, task=STRING, fact={"type": "object"}),
    "Schedule": shape(
        name=STRING,
        agent=STRING,
        session=maybe(STRING),
        input=ANYTHING,
        at=maybe(TIME),
        every_s=maybe(NUMBER),
        cron=maybe(STRING),
        zone=maybe(STRING),
        metadata=TEXTS,
        sequence=INTEGER,
        created=TIME,
        last=maybe(TIME),
        next=maybe(TIME),
    ),
    "Passage": shape(
        document=STRING,
        text=STRING,
        score=NUMBER,
        start=INTEGER,
        end=INTEGER,
        sequence=INTEGER,
        highlight=STRING,
        runner_up=STRING,
    ),
    "Letter": shape(
        id=INTEGER,
        time=TIME,
        session=maybe(STRING),
        consumer=STRING,
        subject=STRING,
        error=ref("Failure"),
        deliveries=INTEGER,
        retried=maybe({"type": "object"}),
    ),
    "Model": shape(id=STRING, object=just("model"), created=INTEGER, owned_by=STRING),
    "AnthropicModel": shape(type=just("model"), id=STRING, display_name=STRING, created_at=STRING),
    "ChatUsage": shape(prompt_tokens=INTEGER, completion_tokens=INTEGER, total_tokens=INTEGER),
    "ChatCompletion": shape(
        id=STRING,
        object=just("chat.completion"),
        created=INTEGER,
        model=STRING,
        choices=many(
            shape(
                index=INTEGER,
                message=shape(
                    {"reasoning_content": STRING}, role=just("assistant"), content=maybe(STRING)
                ),
                finish_reason=just("stop", "length", "tool_calls"),
            )
        ),
        usage=ref("ChatUsage"),
    ),
    "ResponseItem": shape({"status": STRING}, id=STRING, type=STRING),
    "Response": shape(
        id=STRING,
        object=just("response"),
        created_at=INTEGER,
        status=just("queued", "in_progress", "completed", "incomplete", "failed", "cancelled"),
        model=STRING,
        output=many(ref("ResponseItem")),
        error=maybe(shape(code=STRING, message=STRING)),
        incomplete_details=maybe(shape(reason=STRING)),
        previous_response_id=maybe(STRING),
        conversation=maybe(shape(id=STRING)),
        usage=maybe(shape(input_tokens=INTEGER, output_tokens=INTEGER, total_tokens=INTEGER)),
        metadata=TEXTS,
    ),
    "ResponseItems": shape(
        object=just("list"),
        data=many(ref("ResponseItem")),
        first_id=maybe(STRING),
        last_id=maybe(STRING),
        has_more=BOOLEAN,
    ),
    "Conversation": shape(
        id=STRING, object=just("conversation"), created_at=INTEGER, metadata=TEXTS
    ),
    "Deleted": shape(id=STRING, object=STRING, deleted=BOOLEAN),
    "Embeddings": shape(
        object=just("list"),
        model=STRING,
        data=many(shape(object=just("embedding"), index=INTEGER, embedding=ANYTHING)),
        usage=shape(prompt_tokens=INTEGER, total_tokens=INTEGER),
    ),
    "AnthropicMessage": shape(
        id=STRING,
        type=just("message"),
        role=just("assistant"),
        model=STRING,
        content=many(shape(type=just("text", "tool_use"))),
        stop_reason=maybe(STRING),
        stop_sequence=maybe(STRING),
        usage=shape(input_tokens=INTEGER, output_tokens=INTEGER),
    ),
}

STORED = shape(collection=STRING, document=STRING, sequence=INTEGER)
EVENTS = "text/event-stream"
JSON = "application/json"
Answers = dict[str, dict[str, Schema]]
"""Status -> media type -> schema; no media type where there is no body."""


def answers(schema: Schema, status: int = 200, **others: Schema) -> Answers:
    """A JSON answer; `others` by status with a leading underscore."""
    found = {str(status): {JSON: schema}}
    return found | {name.removeprefix("_"): {JSON: other} for name, other in others.items()}


def paged(name: str, row: str) -> Answers:
    """A page of the ledger; `next` is the `before` of the following one."""
    rows = shape(
        **{name: many(ref(row))}, next=maybe(INTEGER), sequence=INTEGER, rebuilding=BOOLEAN
    )
    return answers(rows)


def streamed(schema: Schema | None = None) -> Answers:
    """Server-sent events, or where a schema is given JSON, as the body asks."""
    return {"200": ({JSON: schema} if schema else {}) | {EVENTS: STRING}}


ISSUED: Schema = {"allOf": [ref("ApiKey"), shape(key=STRING)]}

ANSWERS: dict[str, Answers] = {
    "POST /v1/chat/completions": streamed(ref("ChatCompletion")),
    "POST /v1/responses": streamed(ref("Response")),
    "GET /v1/responses/{response_id}": streamed(ref("Response")),
    "DELETE /v1/responses/{response_id}": answers(ref("Deleted")),
    "POST /v1/responses/{response_id}/cancel": answers(ref("Response")),
    "GET /v1/responses/{response_id}/input_items": answers(ref("ResponseItems")),
    "POST /v1/conversations": answers(ref("Conversation")),
    "GET /v1/conversations/{conversation_id}": answers(ref("Conversation")),
    "POST /v1/conversations/{conversation_id}": answers(ref("Conversation")),
    "DELETE /v1/conversations/{conversation_id}": answers(ref("Deleted")),
    "POST /v1/conversations/{conversation_id}/items": answers(ref("ResponseItems")),
    "GET /v1/conversations/{conversation_id}/items": answers(ref("ResponseItems")),
    "GET /v1/conversations/{conversation_id}/items/{item_id}": answers(ref("ResponseItem")),
    "DELETE /v1/conversations/{conversation_id}/items/{item_id}": answers(ref("Conversation")),
    "POST /v1/embeddings": answers(ref("Embeddings")),
    "GET /v1/models": answers(
        {
            "anyOf": [
                shape(object=just("list"), data=many(ref("Model"))),
                shape(
                    data=many(ref("AnthropicModel")),
                    has_more=BOOLEAN,
                    first_id=maybe(STRING),
                    last_id=maybe(STRING),
                ),
            ]
        }
    ),
    "GET /v1/models/{model}": answers({"anyOf": [ref("Model"), ref("AnthropicModel")]}),
    "POST /v1/messages": streamed(ref("AnthropicMessage")),
    "POST /v1/messages/count_tokens": answers(shape(input_tokens=INTEGER)),
    "POST /v1/tasks": answers(ref("TaskLinks"), 202, _200=ref("Task")),
    "GET /v1/tasks": paged("tasks", "TaskLine"),
    "GET /v1/sessions": paged("sessions", "SessionLine"),
    "GET /v1/requests": paged("requests", "RequestLine"),
    "GET /v1/requests/{request}": answers(ref("RequestLine")),
    "GET /v1/usage": {
        "200": {
            JSON: shape(
                by=many(STRING),
                currency=STRING,
                rows=many(ref("UsageNumbers")),
                total=maybe(ref("UsageNumbers")),
                more=BOOLEAN,
                sequence=INTEGER,
                rebuilding=BOOLEAN,
                budgets=many(ref("Budget")),
            ),
            "text/csv": STRING,
        }
    },
    "GET /v1/tasks/{task}": answers(ref("Task")),
    "POST /v1/tasks/{task}/cancel": answers(ref("Recorded"), 202),
    "POST /v1/tasks/{task}/steer": answers(ref("Recorded"), 202),
    "POST /v1/tasks/{task}/approve": answers(ref("Recorded"), 202),
    "POST /v1/tasks/{task}/reject": answers(ref("Recorded"), 202),
    "POST /v1/tasks/{task}/retry": answers(ref("TaskLinks"), 202),
    "GET /v1/tasks/{task}/events": streamed() | {"204": {}},
    "PUT /v1/schedules/{name}": answers(shape(name=STRING, sequence=INTEGER)),
    "GET /v1/schedules/{name}": answers(ref("Schedule")),
    "DELETE /v1/schedules/{name}": answers(shape(name=STRING, deleted=BOOLEAN)),
    "GET /v1/schedules": answers(shape(schedules=many(ref("Schedule")))),
    "GET /v1/sessions/{session}": answers(ref("Session")),
    "DELETE /v1/sessions/{session}": answers(
        shape(session=STRING, sequence=INTEGER, complete=BOOLEAN),
        _202=shape(session=STRING, sequence=INTEGER, complete=BOOLEAN),
    ),
    "GET /v1/sessions/{session}/events": streamed(),
    "GET /v1/sessions/{session}/history": answers(
        shape(session=STRING, facts=many(ref("Fact")), next=maybe(INTEGER))
    ),
    "POST /v1/sessions/{session}/fork": answers(
        shape(session=STRING, task=STRING, parent=STRING, step=INTEGER, events=STRING), 202
    ),
    "PUT /v1/collections/{collection}/documents/{document}": answers(STORED),
    "GET /v1/collections/{collection}/documents/{document}": answers(
        shape(collection=STRING, document=STRING, text=STRING, metadata=TEXTS)
    ),
    "DELETE /v1/collections/{collection}/documents/{document}": answers(STORED),
    "GET /v1/collections/{collection}/documents": answers(
        shape(collection=STRING, documents=many(STRING))
    ),
    "POST /v1/collections/{collection}/search": answers(
        shape(results=many(ref("Passage")), watermark=INTEGER)
    ),
    "GET /v1/dead": answers(shape(letters=many(ref("Letter")), next=maybe(INTEGER))),
    "GET /v1/dead/{letter}": answers(ref("Letter")),
    "POST /v1/dead/{letter}/retry": answers(shape(id=INTEGER, retried={"type": "object"}), 202),
    "POST /v1/keys": answers(ISSUED, 201),
    "GET /v1/keys": answers(shape(keys=many(ref("ApiKey")))),
    "GET /v1/keys/{key}": answers(ref("ApiKey")),
    "DELETE /v1/keys/{key}": answers(ref("ApiKey")),
    "POST /v1/keys/{key}/rotate": answers(ISSUED),
    "GET /healthz": answers(shape(status=just("ok"))),
    "GET /readyz": answers(
        shape(status=just("ready"), missing=many(STRING)),
        _503=shape(status=just("waiting"), missing=many(STRING)),
    ),
    "GET /metrics": {"200": {"text/plain": STRING}},
}
"""Operation -> its good answers."""
