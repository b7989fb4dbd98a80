"""The way of a step: decided, routed, queued, done, and what Millrace itself adds."""

from __future__ import annotations

from infra.grafana.boards.words import area, line, quantile, rate, rates, tail, within
from infra.grafana.build import Board, Panel, Query, Row

_STEPS = Row(
    "Steps",
    (
        Panel(
            "Millrace's own part of a step",
            tuple(
                Query(
                    quantile(q, "millrace_step_seconds", match='{component="overhead"}'),
                    f"p{q * 100:g}",
                )
                for q in (0.5, 0.95, 0.99)
            ),
            "s",
        ),
        tail("Components, p95", "millrace_step_seconds", "component"),
        rates(
            "Steps per second",
            "millrace_step_seconds_count",
            "component",
            '{component=~"model|tool"}',
        ),
    ),
)
_QUEUES = Row(
    "Queues",
    (
        line(
            "Waiting",
            "max by (stream, queue) (millrace_queue_waiting)",
            "{{queue}}",
            help_="Nobody has taken them yet",
        ),
        line("Taken, not settled", "max by (stream, queue) (millrace_queue_taken)", "{{queue}}"),
        tail("Wait in a queue, p95", "millrace_message_wait_seconds", "queue"),
        rates("Messages done", "millrace_messages_total", "queue", '{outcome="done"}'),
        rates(
            "Not done at the first try",
            "millrace_messages_total",
            "queue, outcome",
            '{outcome!="done"}',
        ),
        rates("Redeliveries", "millrace_redeliveries_total", "queue"),
        line(
            "Dead letters in an hour",
            within("1h", "millrace_dead_letters_total", "queue"),
            "{{queue}}",
        ),
        tail("Time for a message, p95", "millrace_message_seconds", "queue"),
        line(
            "Since the queues were looked at",
            "time() - max(millrace_queues_seen_timestamp_seconds)",
            "age",
            "s",
        ),
    ),
)
_LOG = Row(
    "The log and its owners",
    (
        line("Streams", "max by (stream) (millrace_stream_bytes)", "{{stream}}", "bytes"),
        line("Messages in streams", "max by (stream) (millrace_stream_messages)", "{{stream}}"),
        area("Partitions by owner", "millrace_partitions_held", "{{instance}}", help_="16 in all"),
        area("Active sessions", "millrace_sessions_active", "{{instance}}"),
        Panel(
            "Tasks begun and ended",
            (
                Query(rate("millrace_tasks_accepted_total"), "begun"),
                Query(rate("millrace_tasks_ended_total"), "ended"),
            ),
            "ops",
        ),
        line("Connected to the broker", "millrace_bus_connected", "{{instance}}"),
    ),
)
LOOP = Board("millrace-loop", "Millrace: loop and queues", __doc__, (_STEPS, _QUEUES, _LOG))
