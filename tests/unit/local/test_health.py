"""What the broker's health check says about its store."""

from __future__ import annotations

import pytest

from infra.local.health import write_error

FULL = b'{"status":"unavailable","error":"JetStream stream \'$G > RUNS\' write error: no space"}'


def test_a_store_that_cannot_write_is_named() -> None:
    assert "RUNS" in write_error(503, FULL)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"status":"ok"}'),
        (503, b'{"status":"unavailable","error":"JetStream is not current"}'),
        (503, b"not json"),
        (503, b"[]"),
        (500, b""),
    ],
)
def test_anything_else_is_no_reason_for_a_restart(status: int, body: bytes) -> None:
    assert write_error(status, body) == ""
