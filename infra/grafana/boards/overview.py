"""Is it well? What is it doing, what does it cost, and where does the time go?"""

from __future__ import annotations

from infra.grafana.boards.words import area, line, number, quantile, rate, spread, within
from infra.grafana.build import Board, Panel, Query, Row

_OURS = '{job="millrace"}'
_NOW = Row(
    "Now",
    (
        number("Processes up", f"sum(up{_OURS})"),
        number("Processes not ready", "count(millrace_ready == 0) or vector(0)", bad=1),
        number("Alerts that fire", 'count(ALERTS{alertstate="firing"}) or vector(0)', bad=1),
        number("Active sessions", "sum(millrace_sessions_active)"),
        number("Dead letters, 24 h", within("24h", "millrace_dead_letters_total"), bad=1),
        number("Alarms, 24 h", within("24h", "millrace_alarms_total"), bad=1),
        number("Tasks per second", rate("millrace_tasks_ended_total"), "ops"),
        number(
            "Steps per second",
            rate("millrace_step_seconds_count", match='{component=~"model|tool"}'),
            "ops",
        ),
        number("Tokens per second", rate("millrace_tokens_total", match='{kind=~"input|output"}')),
        number("Cents, 24 h", within("24h", "millrace_cost_cents_total")),
        number("Slots in use", "sum(millrace_slots_used) / sum(millrace_slots)", "percentunit", 1),
        number("Waiting model calls", "sum(millrace_calls_waiting)"),
    ),
)
_WORK = Row(
    "Work",
    (
        area("Tasks that ended", rate("millrace_tasks_ended_total", "status"), "{{status}}", "ops"),
        spread("Time of a task", "millrace_task_seconds"),
        area(
            "Where the time of steps goes",
            rate("millrace_step_seconds_sum", "component"),
            "{{component}}",
            "s",
            "Seconds per second; `overhead` contains `route` and `queue`",
        ),
    ),
)
_PROCESSES = Row(
    "Processes",
    (
        line("Ready", "millrace_ready", "{{instance}}"),
        line(
            "Restarts in an hour",
            f"changes(process_start_time_seconds{_OURS}[1h])",
            "{{instance}}",
            help_="Of a worker also those over an engine that broke",
        ),
        line(
            "Lateness of the event loop, p99",
            quantile(0.99, "millrace_loop_lag_seconds", "instance"),
            "{{instance}}",
            "s",
        ),
        line(
            "CPU",
            f"rate(process_cpu_seconds_total{_OURS}[$__rate_interval])",
            "{{instance}}",
            "percentunit",
        ),
        line("Memory", f"process_resident_memory_bytes{_OURS}", "{{instance}}", "bytes"),
        line("Open files", f"process_open_fds{_OURS}", "{{instance}}"),
        Panel("Builds", (Query("millrace_build_info"),), shape="table", width=12),
    ),
)
OVERVIEW = Board("millrace-overview", "Millrace: overview", __doc__, (_NOW, _WORK, _PROCESSES))
