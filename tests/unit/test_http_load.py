"""The load generator of the bench knows where an answer ends, however it is cut."""

from __future__ import annotations

import asyncio

import pytest

from tests.bench.http_load import Connection, Load

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n" + b'{"a":1}'
STREAM = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"9\r\ndata: 1\n\n\r\n12\r\ndata: 2\n\ndata: 3\n\n\r\n0\r\n\r\n"
)
REFUSED = b'HTTP/1.1 503 No\r\ncontent-length: 12\r\n\r\n{"error": 1}'


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.sent.append(b"closed")


@pytest.mark.parametrize(
    ("answer", "events", "refused"), [(WHOLE, 0, 0), (STREAM, 3, 0), (REFUSED, 0, 1)]
)
@pytest.mark.parametrize("size", [1000, 60, 87])
def test_each_answer_is_followed_by_the_next_request(answer, events, refused, size):
    load, wire = Load(1), Wire()
    connection = Connection(b"ask", load)
    connection.connection_made(wire)
    for round_ in (1, 2):
        for at in range(0, len(answer), size):
            assert len(wire.sent) == round_
            connection.data_received(answer[at : at + size])
    assert wire.sent == [b"ask"] * 3
    assert (load.answers, load.events, load.refused) == (2, 2 * events, 2 * refused)
    load.over = True
    for at in range(0, len(answer), size):
        connection.data_received(answer[at : at + size])
    assert wire.sent[-1] == b"closed"
