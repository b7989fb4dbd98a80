"""What is checked on the way into the index."""

from __future__ import annotations

import math

import pytest

from services.retrieval.core.ids import chunk_id, index_tag
from services.retrieval.core.rows import (
    Applied,
    DocumentKey,
    Hit,
    check_vector,
    passing,
    read_document,
)
from shared.contracts.base import encode
from shared.contracts.documents import DocumentChanged
from shared.errors import Permanent
from shared.subjects import document_subject

KEY = DocumentKey("t", "c", "d")


def hit(score: float, start: int = 0) -> Hit:
    return Hit(document="d", text="x", start=start, end=start + 1, sequence=1, score=score)


def test_a_document_is_read_with_its_address() -> None:
    body = encode(DocumentChanged(document="a b/c", text="hello"))
    found = read_document(document_subject("acme", "books", "a b/c"), 9, body)
    assert found.key == DocumentKey("acme", "books", "a b/c")
    assert (found.sequence, found.text, found.deleted) == (9, "hello", False)


@pytest.mark.parametrize(
    ("subject", "document"),
    [("docs.t.c.other", "one"), ("docs.t.c", "one"), ("docs.t.c.x", ""), ("docs.t.c.x", "\x01")],
)
def test_a_document_that_cannot_be_indexed_is_refused(subject: str, document: str) -> None:
    with pytest.raises(Permanent):
        read_document(subject, 1, encode(DocumentChanged(document=document, text="x")))


@pytest.mark.parametrize(
    "vector", [[1.0], [0.0, 0.0], [math.nan, 1.0], [2.0, 0.0], [math.inf, 0.0]]
)
def test_only_unit_vectors_pass(vector: list[float]) -> None:
    with pytest.raises(Permanent) as caught:
        check_vector(vector, 2)
    assert caught.value.code == "invalid_vector"


def test_a_unit_vector_passes() -> None:
    assert check_vector([0.6, 0.8], 2) == [0.6, 0.8]


def test_the_score_is_a_floor_and_the_limit_a_ceiling() -> None:
    hits = [hit(0.2), hit(0.9), hit(0.5), hit(0.5, start=9)]
    assert [(h.score, h.start) for h in passing(hits, 0.5, 2)] == [(0.9, 0), (0.5, 0)]
    assert passing(hits, 0.95, 9) == []


def test_ids_depend_on_every_part() -> None:
    ids = {
        chunk_id("t", "c", "d", 0),
        chunk_id("t", "c", "d", 1),
        chunk_id("t", "cd", "", 0),
        chunk_id("tc", "", "d", 0),
        chunk_id('t","c', "c", "d", 0),
    }
    assert len(ids) == 5
    assert chunk_id("t", "c", "d", 0) in ids


def test_the_tag_names_what_the_index_was_built_with() -> None:
    assert len({index_tag("a", 60), index_tag("b", 60), index_tag("a", 61)}) == 3


def test_an_older_version_is_recognised() -> None:
    applied = Applied(size=2)
    applied.record(KEY, 5)
    applied.record(KEY, 3)
    assert applied.outdated(KEY, 4)
    assert not applied.outdated(KEY, 5)
    for number in range(2):
        applied.record(DocumentKey("t", "c", str(number)), 1)
    assert not applied.outdated(KEY, 4), "only the newest documents are remembered"
