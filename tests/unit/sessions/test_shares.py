"""Who owns what: the same answer for everyone, even shares, few moves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sessions.core.shares import shares
from shared.subjects import PARTITIONS

members = st.sets(st.text("abcdef0123456789", min_size=1, max_size=8), min_size=1, max_size=20)


@given(members)
def test_every_partition_has_one_owner_and_nobody_has_more_than_an_even_share(
    there: set[str],
) -> None:
    found = shares(there)
    assert set(found) == set(range(PARTITIONS))
    assert max(Counter(found.values()).values()) <= -(-PARTITIONS // len(there))


@given(members)
def test_all_members_come_to_the_same_answer(there: set[str]) -> None:
    assert shares(sorted(there)) == shares(sorted(there, reverse=True))


def test_nobody_there_owns_nothing() -> None:
    assert shares([]) == {}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_member_that_leaves_moves_little_more_than_its_own(count: int) -> None:
    before = shares([f"m{n}" for n in range(count + 1)])
    after = shares([f"m{n}" for n in range(count)])
    lost = sum(owner == f"m{count}" for owner in before.values())
    moved = sum(before[p] != after[p] for p in after)
    assert moved <= lost + PARTITIONS // 4
