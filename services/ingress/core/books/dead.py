"""Dead letters as HTTP shows them."""

from __future__ import annotations

from services.ingress.core.tasks.state import Json, full
from shared.contracts.dead import Filed


def letter_line(filed: Filed) -> Json:
    """A letter in a list: what went wrong, and where."""
    letter = filed.letter
    return {
        "id": filed.id,
        "time": filed.time,
        "session": filed.session or None,
        "consumer": letter.consumer,
        "subject": letter.subject,
        "error": full(letter.error),
        "deliveries": letter.deliveries,
        "retried": full(filed.retried),
    }


def letter_data(filed: Filed) -> Json:
    """All of a letter."""
    letter = filed.letter
    return letter_line(filed) | {
        "stream": letter.stream,
        "sequence": letter.sequence,
        "stored": letter.time or None,
        "original": letter.original,
        "body": letter.body,
        "headers": letter.headers,
        "tries": full(letter.tries),
    }
