"""What cache events add up to, in every order that an engine may send them in."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.inference.adapters.trtllm.held import HeldBlocks
from services.inference.core.blocks import block_names, overlap

SIZE = 4


class Engine:
    """Says what it stores and removes, as 1.2 does; `hash` of a block is its number here."""

    def __init__(self, held: HeldBlocks, rank: int | None = None) -> None:
        self._held, self._rank, self._next = held, rank, 0

    def says(self, window: int = 100, **data: Any) -> None:
        event = {"event_id": self._next, "data": data, "window_size": window}
        if self._rank is not None:
            event["attention_dp_rank"] = self._rank
        self._next += 1
        self._held.apply(event)

    def created(self, total: int = 8, window: int = 100) -> None:
        self.says(window, type="created", num_blocks_per_cache_level=[total, 0])

    def stored(self, parent: int | None, *blocks: tuple[int, list[int]], window: int = 100) -> None:
        self.says(window, type="stored", parent_hash=parent, blocks=[
            {"type": "stored_block", "block_hash": name, "cache_level": 0, "priority": 35,
             "tokens": [{"type": "unique_token", "token_id": t, "token_extra_id": 0} for t in ids]}
            for name, ids in blocks
        ])  # fmt: skip

    def removed(self, *names: int) -> None:
        self.says(type="removed", block_hashes=list(names))

    def loses(self) -> None:
        self._next += 1


A, B, C = [1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]


def held_and_engine() -> tuple[HeldBlocks, Engine]:
    held = HeldBlocks(SIZE)
    engine = Engine(held)
    engine.created()
    return held, engine


def test_nothing_is_known_before_the_engine_has_spoken() -> None:
    report = HeldBlocks(SIZE).report()
    assert (report.complete, report.blocks, report.block_tokens) == (False, frozenset(), SIZE)


def test_a_chain_is_named_after_its_tokens() -> None:
    held, engine = held_and_engine()
    engine.stored(None, (-7, A), (2**63, B))
    engine.stored(2**63, (3, C))
    assert held.report().blocks == frozenset(block_names(A + B + C, SIZE))
    assert (held.report().complete, held.total) == (True, 8)


def test_the_same_tokens_elsewhere_are_another_block() -> None:
    held, engine = held_and_engine()
    engine.stored(None, (1, A), (2, A))
    assert overlap(block_names(A + A, SIZE), held.report().blocks) == 2
    assert overlap(block_names(B + A, SIZE), held.report().blocks) == 0


def test_a_block_that_is_not_full_ends_what_is_known() -> None:
    held, engine = held_and_engine()
    engine.stored(None, (1, A), (2, [5, 6]), (3, C))
    engine.removed(2)
    assert held.report().blocks == frozenset(block_names(A, SIZE))


def test_what_stands_behind_an_unknown_block_is_unknown() -> None:
    held, engine = held_and_engine()
    engine.stored(99, (1, A))
    assert not held.report().blocks


def test_a_name_is_held_until_its_last_block_has_gone() -> None:
    """Two tenants with one prompt have a block each."""
    held, engine = held_and_engine()
    engine.stored(None, (1, A))
    engine.stored(None, (2, A))
    engine.removed(1)
    assert held.report().blocks
    engine.removed(2, 2, 77)
    assert not held.report().blocks


def test_lost_events_void_what_was_known() -> None:
    held, engine = held_and_engine()
    engine.stored(None, (1, A))
    engine.loses()
    engine.stored(None, (2, B))
    report = held.report()
    assert report.blocks == frozenset(block_names(B, SIZE))
    assert (report.epoch, report.complete) == (1, False)


def test_every_rank_counts_for_itself() -> None:
    held = HeldBlocks(SIZE)
    ranks = [Engine(held, 0), Engine(held, 1)]
    for rank in ranks:
        rank.created()
    ranks[0].stored(None, (1, A))
    ranks[1].stored(None, (1, B))
    ranks[0].removed(1)
    assert held.report().blocks == frozenset(block_names(B, SIZE))
    assert held.report().epoch == 0


def test_of_several_windows_the_widest_counts() -> None:
    held = HeldBlocks(SIZE)
    engine = Engine(held)
    engine.created(total=4, window=10)
    engine.created(total=9, window=100)
    engine.stored(None, (1, A), window=10)
    assert (held.total, held.report().blocks) == (9, frozenset())


def test_a_change_of_level_changes_nothing() -> None:
    held, engine = held_and_engine()
    engine.stored(None, (1, A))
    engine.says(type="updated", block_hash=1, cache_level={}, priority={})
    assert len(held) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 3)), max_size=60))
def test_what_is_held_is_what_was_stored_and_not_removed(
    changes: list[tuple[bool, int, int]],
) -> None:
    held, engine = held_and_engine()
    model: dict[int, int] = {}
    for storing, name, content in changes:
        if storing:
            engine.stored(None, (name, [content] * SIZE))
            model[name] = content
        else:
            engine.removed(name)
            model.pop(name, None)
    expected = {block_names([content] * SIZE, SIZE)[0] for content in model.values()}
    assert held.report().blocks == expected
    assert len(held) == len(model)
