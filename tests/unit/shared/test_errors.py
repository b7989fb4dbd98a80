"""Errors travel as values and come back as what they were."""

from __future__ import annotations

import pytest

from shared.contracts.base import decode, encode
from shared.errors import (
    Broken,
    Failure,
    MillraceError,
    Permanent,
    Transient,
    error_of,
    failure_of,
)


@pytest.mark.parametrize(
    "error",
    [
        Transient("no_worker", "none", retry_after=1.5),
        Permanent("invalid_name", "bad", field="session"),
        Broken("impossible"),
    ],
)
def test_an_error_survives_the_way(error: MillraceError) -> None:
    found = error_of(decode(encode(failure_of(error)), Failure))
    assert type(found) is type(error)
    assert (found.code, found.detail, found.field, found.retry_after) == (
        error.code,
        error.detail,
        error.field,
        error.retry_after,
    )


def test_a_foreign_error_is_our_bug_and_its_text_stays_here() -> None:
    failure = failure_of(ValueError("password=hunter2"))
    assert failure == Failure(code="internal", family="broken", detail="ValueError")


def test_an_error_reads_as_code_and_detail() -> None:
    assert str(Permanent("unknown_task", "no task t1")) == "unknown_task: no task t1"
    assert str(Broken("impossible")) == "impossible"
