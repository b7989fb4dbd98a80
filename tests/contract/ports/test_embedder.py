"""The embedding model says what it said when it was measured, and only from the right files."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.retrieval.adapters.minilm import CONTEXT, MiniLmEmbedder
from services.retrieval.adapters.minilm_files import DIGESTS, check_files, installed_folder
from shared.errors import Permanent


@pytest.fixture(scope="module")
def embedder() -> Iterator[MiniLmEmbedder]:
    embedder = MiniLmEmbedder(threads=1)
    yield embedder
    embedder.close()


def cosine(a: object, b: object) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))  # type: ignore[call-overload]


async def test_paraphrases_are_nearer_than_strangers(embedder: MiniLmEmbedder) -> None:
    mat, rug, money = (
        await embedder.embed(
            [
                "The cat sits on the mat.",
                "A cat is sitting on a mat.",
                "Quarterly revenue fell by ten percent.",
            ]
        )
    ).vectors
    assert cosine(mat, rug) > 0.95
    assert abs(cosine(mat, money)) < 0.1


async def test_the_numbers_are_those_of_the_reference(embedder: MiniLmEmbedder) -> None:
    """First numbers of this sentence; the graph was compared with torch (facts, engine.md 8)."""
    (vector,) = (await embedder.embed(["The cat sits on the mat."])).vectors
    expected = [0.134177, -0.032900, -0.024804, 0.041439]
    assert list(vector[:4]) == pytest.approx(expected, abs=1e-5)


async def test_vectors_are_unit_and_do_not_depend_on_the_batch(embedder: MiniLmEmbedder) -> None:
    texts = ["one", "two words", "word " * 40, "", "\u4e2d\u6587"] * 3
    together = await embedder.embed(texts)
    assert len(together.vectors) == len(texts)
    for text, vector in zip(texts[:5], together.vectors, strict=False):
        assert cosine(vector, vector) == pytest.approx(1.0, abs=1e-5)
        (alone,) = (await embedder.embed([text])).vectors
        assert cosine(alone, vector) == pytest.approx(1.0, abs=1e-5)


async def test_long_texts_are_cut_at_the_context(embedder: MiniLmEmbedder) -> None:
    long = await embedder.embed(["word " * 400])
    assert long.tokens == CONTEXT
    assert embedder.count_tokens("word " * 400) == 400, "counting does not cut"


async def test_nothing_gives_nothing(embedder: MiniLmEmbedder) -> None:
    assert (await embedder.embed([])).vectors == []


async def test_the_loop_is_not_blocked(embedder: MiniLmEmbedder) -> None:
    working = asyncio.create_task(embedder.embed(["many words " * 100] * 16))
    turns = 0
    while not working.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    for name in DIGESTS:
        (tmp_path / name).symlink_to(installed_folder() / name)
    check_files(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    shutil.copy(installed_folder() / "vocab.txt", tmp_path / "vocab.txt")
    with (tmp_path / "vocab.txt").open("a") as stream:
        stream.write("extra\n")
    with pytest.raises(Permanent) as caught:
        check_files(tmp_path)
    assert (caught.value.code, caught.value.field) == ("model_hash_mismatch", "vocab.txt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as caught:
        check_files(tmp_path)
    assert caught.value.code == "model_missing"
