"""NATS itself and the disks: who is there, what is held, and how much room is left."""

from __future__ import annotations

from infra.grafana.boards.words import line, number
from infra.grafana.build import Board, Panel, Query, Row


def _by_server(metric: str) -> str:
    """Every router looks at every server: the highest answer stands for all of them."""
    return f"max by (server) (millrace_broker_{metric})"


_SERVERS = Row(
    "Servers",
    (
        number("Servers that answer", f"sum({_by_server('up')})"),
        number(
            "Servers that are not well", f"count({_by_server('healthy')} == 0) or vector(0)", bad=1
        ),
        number("Links to other sites", f"sum({_by_server('leafs')})"),
        number(
            "Links that are missing",
            f"sum({_by_server('leafs_wanted')} > {_by_server('leafs')}) or vector(0)",
            bad=1,
        ),
        number(
            "Least room on a disk",
            "min(millrace_disk_free_bytes / millrace_disk_size_bytes)",
            "percentunit",
        ),
        number(
            "Streams that lack a copy",
            "count(millrace:stream_copies_missing:max > 0) or vector(0)",
            bad=1,
        ),
        Panel(
            "Clients",
            (
                Query(_by_server("connections"), "{{server}}"),
                Query(_by_server("connections_limit"), "{{server}} at most"),
            ),
        ),
        line(
            "Clients that were too slow, 1 h",
            "max by (server) (increase(millrace_broker_slow_consumers_total[1h]))",
            "{{server}}",
            help_="The server cut them off",
        ),
        line("Memory", _by_server("memory_bytes"), "{{server}}", "bytes"),
    ),
)
_ROOM = Row(
    "Room",
    (
        line(
            "Store, part in use",
            "millrace:broker_stored:ratio",
            "{{server}} {{storage}}",
            "percentunit",
        ),
        Panel(
            "Store",
            (
                Query(
                    "max by (server, storage) (millrace_broker_stored_bytes)",
                    "{{server}} {{storage}}",
                ),
                Query(
                    "max by (server, storage) (millrace_broker_stored_limit_bytes)",
                    "{{server}} {{storage}} at most",
                ),
            ),
            "bytes",
        ),
        line(
            "Streams with a limit, part in use",
            "millrace:stream_bytes:ratio",
            "{{stream}}",
            "percentunit",
        ),
        line(
            "Free bytes beside a process's data",
            "millrace_disk_free_bytes",
            "{{instance}}",
            "bytes",
        ),
    ),
)
_STREAMS = Row(
    "Streams",
    (
        line(
            "Messages stored per second",
            "max by (stream) (deriv(millrace_stream_last_sequence[$__rate_interval]))",
            "{{stream}}",
            "ops",
        ),
        line(
            "Place of the newest message",
            "max by (stream) (millrace_stream_last_sequence)",
            "{{stream}}",
        ),
        line(
            "Leaders",
            "count by (server) (max by (stream, server) (millrace_stream_leader))",
            "{{server}}",
        ),
        Panel(
            "Copies",
            (
                Query("min by (stream) (millrace_stream_copies_current)", "{{stream}} current"),
                Query("max by (stream) (millrace_stream_copies)", "{{stream}} of"),
            ),
        ),
        line("Lag of the last copy", "max by (stream) (millrace_stream_copy_lag)", "{{stream}}"),
    ),
)
BROKER = Board(
    "millrace-broker", "Millrace: broker and disks", __doc__, (_SERVERS, _ROOM, _STREAMS)
)
