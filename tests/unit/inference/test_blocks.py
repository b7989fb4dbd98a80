"""The block pool: every block in one state, the oldest prefix forgotten first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.inference.adapters.openvino.blocks import BlockPool, chain_key, chain_start


def test_blocks_run_out_and_come_back() -> None:
    pool = BlockPool(2)
    first, second = pool.take(), pool.take()
    assert {first, second} == {0, 1}
    assert pool.take() is None
    pool.release(0)
    assert pool.take() == 0


def test_a_published_block_is_found_and_shared() -> None:
    pool = BlockPool(2)
    block = pool.take()
    assert block is not None
    pool.publish(block, b"k", 7)
    assert pool.share(b"k") == block
    pool.release(block)
    assert (pool.free, pool.cached) == (1, 0)  # still held once
    pool.release(block)
    assert (pool.free, pool.cached) == (1, 1)
    assert pool.share(b"unknown") is None


def test_the_least_recently_released_prefix_goes_first() -> None:
    pool = BlockPool(2)
    for key in (b"a", b"b"):
        block = pool.take()
        assert block is not None
        pool.publish(block, key, 7)
    for block in (0, 1):
        pool.release(block)
    assert pool.share(b"a") == 0
    pool.release(0)
    assert pool.take() == 1
    assert (pool.share(b"b"), pool.share(b"a")) == (None, 0)


def test_the_first_block_with_a_content_keeps_the_name() -> None:
    pool = BlockPool(2)
    for block in (pool.take(), pool.take()):
        assert block is not None
        pool.publish(block, b"k", 7)
    pool.release(1)
    assert (pool.free, pool.share(b"k")) == (1, 0)


def test_names_depend_on_salt_tokens_and_all_before() -> None:
    names = {
        chain_key(chain_start(salt), ids) for salt in ("", "t") for ids in ([1, 2], [2, 1], [1])
    }
    assert len(names) == 6
    assert chain_key(chain_key(b"", [1]), [2]) != chain_key(b"", [2])


@given(st.lists(st.tuples(st.sampled_from(["take", "share", "release"]), st.integers(0, 4))))
def test_no_block_is_ever_lost(moves: list[tuple[str, int]]) -> None:
    pool = BlockPool(4)
    held: list[int] = []
    for move, number in moves:
        key = bytes([number])
        if move == "release" and held:
            pool.release(held.pop(number % len(held)))
        elif move != "release":
            block = pool.share(key) if move == "share" else pool.take()
            if block is not None:
                held.append(block)
                pool.publish(block, key, 7)
        assert pool.available + len(set(held)) == pool.total
