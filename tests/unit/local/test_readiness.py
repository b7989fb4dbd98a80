"""What the answer of /readyz says about each program."""

from __future__ import annotations

import pytest

from infra.local.readiness import missing_in

NAMES = ("router", "tools", "ingress")


def test_an_answer_of_200_means_that_nothing_is_missing() -> None:
    assert missing_in(200, b"{}", NAMES) == ()


def test_the_named_ones_are_missing() -> None:
    assert missing_in(503, b'{"missing": ["tools", "something else"]}', NAMES) == ("tools",)


def test_a_missing_worker_is_the_inference_service() -> None:
    assert missing_in(503, b'{"missing": ["worker"]}', ("inference", "tools")) == ("inference",)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"missing": "x"}', b'{"missing": []}']
)
def test_an_answer_that_names_nobody_means_that_nobody_is_ready(body: bytes) -> None:
    assert missing_in(503, body, NAMES) == NAMES
