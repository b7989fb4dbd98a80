"""A message and its copy are compared without what belongs to their places."""

from __future__ import annotations

import pytest

from infra.trial.copies import entry

HERE = {"Nats-Msg-Id": "m", "Millrace-Task": "t", "Nats-Expected-Last-Subject-Sequence": "0"}
THERE = {"Nats-Msg-Id": "m", "Millrace-Task": "t", "Nats-Stream-Source": "RUNS:x 1 > > s h"}


def test_place_and_way_do_not_count() -> None:
    here = entry("run.2.acme.s1.done.t", b"{}", HERE)
    assert here == entry("run.edge.acme.s1.done.t", b"{}", THERE)


@pytest.mark.parametrize(
    ("subject", "body", "headers"),
    [
        ("run.edge.acme.s1.done.u", b"{}", THERE),
        ("run.edge.acme.s1.done.t", b"{ }", THERE),
        ("run.edge.acme.s1.done.t", b"{}", THERE | {"Nats-Msg-Id": "n"}),
        ("run.edge.acme.s1.done.t", b"{}", THERE | {"Millrace-Task": "u"}),
    ],
)
def test_everything_else_does(subject: str, body: bytes, headers: dict[str, str]) -> None:
    assert entry(subject, body, headers) != entry("run.2.acme.s1.done.t", b"{}", HERE)
