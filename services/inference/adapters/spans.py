"""The span of a stateless completion, which no log tells step by step."""

from __future__ import annotations

from shared.contracts.base import SessionRef
from shared.contracts.facts import Completed
from shared.contracts.work import DirectRequest
from shared.subjects import DIRECT_SESSION
from shared.trace import Span, TraceContext, Value, span_id_of


def completion_span(
    request: DirectRequest, fact: Completed, parent: TraceContext, now: float
) -> Span:
    """`chat` below the request that asked for it, in the words of the GenAI conventions.

    Without what was said: that is in nobody's log.
    """
    usage, timings = fact.usage, fact.timings
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "millrace",
        "gen_ai.request.model": fact.model,
        "gen_ai.response.model": fact.model,
        "gen_ai.response.id": fact.id,
        "gen_ai.response.finish_reasons": (fact.finish,),
        "gen_ai.response.time_to_first_chunk": timings.first_token_ms / 1000,
        "gen_ai.usage.input_tokens": usage.input,
        "gen_ai.usage.output_tokens": usage.output,
        "gen_ai.usage.cache_read.input_tokens": usage.cached,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
        "millrace.tenant": request.tenant,
        "millrace.worker": fact.worker,
        "millrace.queued_ms": timings.queued_ms,
        "millrace.price": fact.price,
        "millrace.route": request.model,
    }
    if request.target is not None and request.target.why:
        attributes["millrace.placed"] = request.target.why
    own = span_id_of(SessionRef(request.tenant, DIRECT_SESSION), request.id, "completed")
    return Span(
        name=f"chat {fact.model}",
        context=TraceContext(parent.trace_id, own),
        start=now - timings.total_ms / 1000,
        end=now,
        service="inference",
        parent=parent,
        kind="client",
        attributes=attributes,
        error=fact.error.code if fact.error else "",
    )
