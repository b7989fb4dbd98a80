"""Who asks, what is answered, and what is refused."""

from __future__ import annotations

from infra.grafana.boards.words import area, line, rate, rates, tail, within
from infra.grafana.build import Board, Row

_REQUESTS = Row(
    "Requests",
    (
        area("By status", rate("millrace_http_requests_total", "status"), "{{status}}", "reqps"),
        rates("By route", "millrace_http_requests_total", "method, route"),
        tail("Time, p95", "millrace_http_request_seconds", "method, route"),
        tail("Time to the first event, p95", "millrace_http_first_byte_seconds", "method, route"),
        area("Open streams", "sum by (kind) (millrace_http_streams_open)", "{{kind}}"),
        rates("Errors by their code", "millrace_http_refusals_total", "code"),
    ),
)
_TOKENS = rate("millrace_tenant_tokens_total", "tenant")
_CENTS = within("1h", "millrace_tenant_cost_cents_total", "tenant")
_TENANTS = Row(
    "Tenants",
    (
        line(
            "Tokens per second",
            f"topk(20, {_TOKENS})",
            "{{tenant}}",
            help_="100 tenants by name; `millrace usage` has all",
        ),
        line("Cents per hour", f"topk(20, {_CENTS})", "{{tenant}}"),
    ),
)
_QUESTIONS = Row(
    "Questions of tenants' own clients of the bus",
    (
        rates("Questions", "millrace_question_seconds_count", "what, outcome"),
        tail("Time, p95", "millrace_question_seconds", "what"),
    ),
)
HTTP = Board(
    "millrace-http", "Millrace: HTTP and tenants", __doc__, (_REQUESTS, _TENANTS, _QUESTIONS)
)
