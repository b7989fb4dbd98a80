"""The block pool: every block in one state, the oldest prefix forgotten first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.inference.adapters.openvino.blocks import BlockPool, chain_key, chain_start
from services.inference.ports import Keep


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


def cached(pool: BlockPool, *contents: tuple[bytes, Keep], lineage: str = "") -> None:
    """Blocks that somebody has computed and left, in this order."""
    for key, keep in contents:
        block = pool.take()
        assert block is not None
        pool.publish(block, key, 7, lineage)
        pool.release(block, keep)


def gone_in_order(pool: BlockPool, *keys: bytes) -> list[bytes]:
    """The order in which these contents are forgotten."""
    left, order = list(keys), []
    while pool.take() is not None:
        order += [key for key in left if key not in pool._block_of]
        left = [key for key in left if key in pool._block_of]
    return order


def test_what_is_worth_less_goes_before_what_is_worth_more() -> None:
    pool = BlockPool(4)
    cached(pool, (b"long", "long"), (b"usual", "usual"), (b"short", "short"), (b"new", "usual"))
    assert gone_in_order(pool, b"long", b"usual", b"short", b"new") == [
        b"short", b"usual", b"new", b"long",
    ]  # fmt: skip


def test_nothing_is_kept_for_ever() -> None:
    """Once as many blocks as there are were left behind it, it is worth what any other is."""
    pool = BlockPool(2)
    cached(pool, (b"long", "long"))
    for number in range(2):
        cached(pool, (b"usual %d" % number, "usual"))
        assert b"long" in pool._block_of
    cached(pool, (b"usual 2", "usual"), (b"usual 3", "usual"))
    assert b"long" not in pool._block_of


def test_a_block_is_worth_the_most_that_it_is_to_those_who_leave_it() -> None:
    pool = BlockPool(2)
    cached(pool, (b"both", "usual"), (b"other", "usual"))
    for _ in range(2):
        assert pool.share(b"both") is not None
    for keep in ("long", "short"):
        pool.release(0, keep)  # type: ignore[arg-type]
    assert gone_in_order(pool, b"both", b"other") == [b"other", b"both"]


def test_the_end_of_a_lineage_frees_what_only_it_has_used() -> None:
    pool = BlockPool(6)
    cached(pool, (b"system", "usual"), (b"mine", "long"), lineage="one")
    assert pool.share(b"system", "two") == 0
    cached(pool, (b"theirs", "usual"), lineage="two")
    pool.release(0)
    pool.forget("one")
    assert (pool.share(b"mine"), pool.free) == (None, 4)
    assert (pool.share(b"system"), pool.share(b"theirs")) == (0, 2)
    pool.forget("one")  # again, and of one that nobody knows
    pool.forget("three")


def test_what_runs_when_its_lineage_ends_goes_on() -> None:
    pool = BlockPool(2)
    cached(pool, (b"mine", "usual"), lineage="one")
    assert pool.share(b"mine", "one") == 0
    pool.forget("one")
    assert pool.share(b"mine") == 0
    for _ in range(2):
        pool.release(0)
    assert (pool.cached, pool.free) == (1, 1)


MOVES = st.tuples(
    st.sampled_from(["take", "share", "release", "forget"]),
    st.integers(0, 4),
    st.sampled_from(["", "one", "two"]),
    st.sampled_from(["short", "usual", "long"]),
)


@given(st.lists(MOVES))
def test_no_block_is_ever_lost(moves: list[tuple[str, int, str, Keep]]) -> None:
    pool = BlockPool(4)
    held: list[int] = []
    for move, number, lineage, keep in moves:
        key = bytes([number])
        if move == "forget":
            pool.forget(lineage)
        elif move == "release" and held:
            pool.release(held.pop(number % len(held)), keep)
        elif move != "release":
            block = pool.share(key, lineage) if move == "share" else pool.take()
            if block is not None:
                held.append(block)
                pool.publish(block, key, 7, lineage)
        assert pool.available + len(set(held)) == pool.total
        owned = [block for blocks in pool._blocks_of.values() for block in blocks]
        assert sorted(owned) == sorted(pool._lineage_of)
        assert set(owned) <= set(pool._key_of)
