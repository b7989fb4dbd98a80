"""Who gets the next slot, for every crowd that may stand before them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.inference.core.fairness import BATCH_EVERY, Ticket, Turns
from shared.contracts.agents import Priority


class Crowd:
    """Turns, and everybody who got one."""

    def __init__(self, slots: int) -> None:
        self.turns = Turns(slots)
        self.running: list[Ticket] = []

    def come(self, tenant: str, priority: Priority = "interactive") -> Ticket:
        ticket = Ticket(tenant, priority)
        self.running += self.turns.enter(ticket)
        return ticket

    def end(self, ticket: Ticket) -> list[Ticket]:
        self.running = [one for one in self.running if one is not ticket]
        started = self.turns.leave(ticket)
        self.running += started
        return started

    def shares(self) -> Counter[str]:
        return Counter(one.tenant for one in self.running)


def test_a_flood_of_one_tenant_leaves_the_others_their_share() -> None:
    crowd = Crowd(6)
    for _ in range(100):
        crowd.come("flood")
    for tenant in ("a", "b"):
        for _ in range(10):
            crowd.come(tenant)
    assert crowd.shares() == {"flood": 6}
    for ticket in list(crowd.running):
        crowd.end(ticket)
    assert crowd.shares() == {"flood": 2, "a": 2, "b": 2}


def test_whoever_comes_first_is_served_first_within_a_tenant() -> None:
    crowd = Crowd(1)
    first, second, third = (crowd.come("a") for _ in range(3))
    assert crowd.end(first) == [second]
    assert crowd.end(second) == [third]


def test_equal_tenants_take_turns() -> None:
    crowd = Crowd(1)
    for tenant in "aaabbbccc":
        crowd.come(tenant)
    order = []
    while crowd.running:
        order.append(crowd.running[0].tenant)
        crowd.end(crowd.running[0])
    assert order == list("abcabcabc")


def test_batches_leave_a_slot_and_wait_behind_everybody() -> None:
    crowd = Crowd(4)
    for _ in range(9):
        crowd.come("night", "batch")
    assert crowd.shares() == {"night": 3}
    someone = crowd.come("day")
    assert someone.running
    crowd.come("day")
    assert [one.tenant for one in crowd.end(crowd.running[0])] == ["day"]
    assert crowd.turns.waiting == 6


def test_a_single_slot_serves_batches_when_nobody_else_comes() -> None:
    crowd = Crowd(1)
    assert crowd.come("night", "batch").running


def test_a_batch_gets_a_turn_among_many_others() -> None:
    crowd = Crowd(1)
    batch = crowd.come("day") and crowd.come("night", "batch")
    turns = 0
    while not batch.running:
        crowd.come("day")
        crowd.end(crowd.running[0])
        turns += 1
    assert turns == BATCH_EVERY + 1


def test_who_gives_up_is_passed_over() -> None:
    crowd = Crowd(1)
    first, second, third = (crowd.come("a") for _ in range(3))
    assert crowd.end(second) == []
    assert crowd.end(first) == [third]
    assert crowd.turns.waiting == 0


moves = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["interactive", "batch"]), st.integers(0, 9)),
    max_size=60,
)


@given(slots=st.integers(1, 5), moves=moves)
def test_no_slot_is_left_while_somebody_waits_for_it(
    slots: int, moves: list[tuple[str, Priority, int]]
) -> None:
    """And never more run than there are slots, whoever leaves."""
    crowd, present = Crowd(slots), []
    for tenant, priority, leaver in moves:
        present.append(crowd.come(tenant, priority))
        if leaver < len(present):
            crowd.end(present.pop(leaver))
        running = len(crowd.running)
        waiting = [one for one in present if not one.running]
        assert running == sum(one.running for one in present) <= slots
        assert crowd.turns.waiting == len(waiting)
        kept = 1 if slots > 1 and all(one.priority == "batch" for one in waiting) else 0
        assert not waiting or running >= slots - kept
