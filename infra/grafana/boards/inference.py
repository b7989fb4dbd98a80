"""Models, workers, caches and tools."""

from __future__ import annotations

from infra.grafana.boards.words import area, line, rate, rates, spread, tail, within
from infra.grafana.build import Board, Panel, Query, Row

_CACHED = rate("millrace_tokens_total", "model", '{kind="cached"}')
_INPUT = rate("millrace_tokens_total", "model", '{kind="input"}')
_ANSWERS = Row(
    "Answers",
    (
        rates("Model calls", "millrace_model_calls_total", "model, kind, outcome"),
        spread("Time to the first token", "millrace_first_token_seconds", "model"),
        spread("Time between tokens", "millrace_token_gap_seconds", "model"),
        rates("Tokens", "millrace_tokens_total", "model, kind"),
        line("Input from a prefix cache", f"{_CACHED} / {_INPUT}", "{{model}}", "percentunit"),
        line("Cents per hour", within("1h", "millrace_cost_cents_total", "model"), "{{model}}"),
    ),
)
_WORKERS = Row(
    "Workers",
    (
        Panel(
            "Slots",
            (
                Query("sum by (model) (millrace_slots_used)", "{{model}} used"),
                Query("sum by (model) (millrace_slots)", "{{model}} of"),
            ),
        ),
        line("Calls that wait inside", "sum by (model) (millrace_calls_waiting)", "{{model}}"),
        line("Live workers", "max by (model) (millrace_workers)", "{{model}}"),
        area("KV cache", "sum by (model, state) (millrace_kv_blocks)", "{{model}} {{state}}"),
        line(
            "Prompts that broke their prefix, 1 h",
            "sum by (model) (delta(millrace_prefixes_broken[1h]))",
            "{{model}}",
        ),
        line(
            "Endpoints that get no work",
            "max by (model) (millrace_endpoint_out)",
            "{{model}}",
            help_="The breaker is open",
        ),
        rates("Placed", "millrace_routed_total", "model, place"),
        line(
            "Restarts of workers in an hour",
            'changes(process_start_time_seconds{service="inference"}[1h])',
            "{{instance}}",
        ),
        line("Workers lost in an hour", within("1h", "millrace_workers_lost_total"), "lost"),
    ),
)
_TOOLS = Row(
    "Tools",
    (
        rates("Tool calls", "millrace_tool_calls_total", "tool, outcome"),
        tail("Time of tools, p95", "millrace_tool_seconds", "tool"),
    ),
)
INFERENCE = Board(
    "millrace-inference", "Millrace: inference", __doc__, (_ANSWERS, _WORKERS, _TOOLS)
)
