"""What fits into one answer."""

from services.sessions.core.asks import fitting
from shared.contracts.asks import StoredMessage
from shared.contracts.base import encode

ROOM = 4000


def row(sequence: int, size: int, **headers: str) -> StoredMessage:
    return StoredMessage(
        subject="run.3.acme.s1.noted",
        sequence=sequence,
        time="2026-01-31T12:00:00Z",
        headers=headers,
        size=size,
        text="x" * size,
    )


def test_as_many_as_fit_come_and_in_their_order() -> None:
    rows = [row(n, 1100) for n in range(1, 9)]
    found = fitting(rows, ROOM)
    assert found == rows[:3]
    assert sum(len(encode(one)) for one in found) <= ROOM


def test_a_body_that_fills_an_answer_is_left_out_and_its_size_is_said() -> None:
    rows = [row(1, 10), row(2, ROOM), row(3, 10)]
    found = fitting(rows, ROOM)
    assert [(one.sequence, one.size, one.text) for one in found] == [
        (1, 10, "x" * 10),
        (2, ROOM, ""),
        (3, 10, "x" * 10),
    ]


def test_what_counts_is_the_size_on_the_wire() -> None:
    quoted = StoredMessage(subject="s", sequence=1, time="t", size=1500, text='"' * 1500)
    assert fitting([quoted], ROOM)[0].text == ""


def test_one_always_comes_along() -> None:
    rows = [row(1, 10, large="h" * ROOM), row(2, 10)]
    [found] = fitting(rows, ROOM)
    assert (found.sequence, found.text, found.headers) == (1, "", {"large": "h" * ROOM})
    assert fitting([], ROOM) == []
