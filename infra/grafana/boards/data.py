"""How far the index and the books are behind, and how fast they are."""

from __future__ import annotations

from infra.grafana.boards.words import line, rates, spread
from infra.grafana.build import Board, Row


def _behind(queue: str) -> str:
    match = f'{{queue="{queue}"}}'
    return f"max(millrace_queue_waiting{match}) + max(millrace_queue_taken{match})"


_RETRIEVAL = Row(
    "Retrieval",
    (
        line("Documents that the index lacks", _behind("retrieval"), "behind"),
        spread("Searches", "millrace_search_seconds", match='{outcome="ok"}'),
        rates("Searches by outcome", "millrace_search_seconds_count", "outcome"),
        rates("Documents indexed", "millrace_documents_indexed_total", "change"),
        rates("Texts embedded", "millrace_embedded_texts_total"),
    ),
)
_LEDGER = Row(
    "Ledger",
    (
        line("Facts behind the log", _behind("ledger"), "behind"),
        spread("Age of the oldest fact at its commit", "millrace_ledger_delay_seconds"),
        spread("Time of a transaction", "millrace_ledger_commit_seconds"),
        rates("Facts written", "millrace_ledger_facts_total"),
        rates("Transactions tried again", "millrace_ledger_retries_total"),
    ),
)
DATA = Board("millrace-data", "Millrace: retrieval and ledger", __doc__, (_RETRIEVAL, _LEDGER))
