"""Which tokens go into a step."""

from __future__ import annotations

from services.inference.adapters.openvino.blocks import BlockPool
from services.inference.adapters.openvino.scheduler import PATIENCE, Scheduler, Sequence, Slice


def scheduler(blocks: int = 16, sequences: int = 4, tokens: int = 8) -> Scheduler:
    return Scheduler(BlockPool(blocks), 4, sequences, tokens)


def step(scheduler: Scheduler) -> list[tuple[Sequence, int, int]]:
    """Plan, compute (as if), and append one token to whoever reached its end."""
    slices = scheduler.plan()
    ends = [part.sequence for part in slices if part.samples]
    scheduler.commit(slices)
    for sequence in ends:
        sequence.ids.append(99)
    return [(part.sequence, part.start, part.length) for part in slices]


def added(scheduler: Scheduler, *lengths: int) -> list[Sequence]:
    sequences = [Sequence(tuple(range(n * 100, n * 100 + n))) for n in lengths]
    for sequence in sequences:
        scheduler.add(sequence)
    return sequences


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert scheduler().plan() == []


def test_a_long_prompt_is_computed_in_chunks() -> None:
    s = scheduler()
    (a,) = added(s, 19)
    assert [step(s) for _ in range(4)] == [[(a, 0, 8)], [(a, 8, 8)], [(a, 16, 3)], [(a, 19, 1)]]


def test_decoding_goes_before_a_new_prompt() -> None:
    s = scheduler()
    (a,) = added(s, 3)
    step(s)
    (b,) = added(s, 20)
    assert step(s) == [(a, 3, 1), (b, 0, 7)]
    assert step(s) == [(a, 4, 1), (b, 7, 7)]


def test_no_more_sequences_than_slots() -> None:
    s = scheduler(sequences=2)
    a, b, c = added(s, 1, 2, 3)
    assert [part[0] for part in step(s)] == [a, b]
    s.remove(a)
    assert [part[0] for part in step(s)] == [b, c]


def test_a_failed_step_publishes_nothing() -> None:
    s = scheduler()
    (a,) = added(s, 8)
    s.plan()
    s.remove(a)
    (again,) = added(s, 8)
    assert step(s) == [(again, 0, 8)]


def test_a_known_prefix_is_not_computed_again() -> None:
    s = scheduler()
    (a,) = added(s, 8)
    step(s)
    (b,) = added(s, 8)
    assert step(s) == [(a, 8, 1), (b, 4, 4)]  # one token is left to compute, hence one block only
    assert (a.cached, b.cached) == (0, 4)


def test_the_youngest_gives_way_and_keeps_its_tokens() -> None:
    s = scheduler(blocks=4)
    a, b = added(s, 7, 6)
    step(s)
    step(s)
    step(s)
    step(s)
    assert s.running == [a]
    assert list(s.waiting) == [b]
    assert b.ids[:6] == list(range(600, 606))
    assert b.blocks == []
    s.remove(a)
    assert {part[0] for part in step(s)} == {b}
    assert b.cached == 0  # a hit on its own blocks is not a saving


def test_everybody_ends_under_pressure_and_all_blocks_return() -> None:
    s = scheduler(blocks=6)
    waiting = {sequence: len(sequence.ids) + 9 for sequence in added(s, 5, 6, 7, 9, 11)}
    for _ in range(400):
        if not waiting:
            break
        step(s)
        for sequence in [q for q, wanted in waiting.items() if len(q.ids) >= wanted]:
            s.remove(sequence)
            del waiting[sequence]
    assert not waiting
    assert s.plan() == []


def test_remove_of_a_waiting_or_unknown_sequence_is_harmless() -> None:
    s = scheduler()
    (a,) = added(s, 3)
    s.remove(a)
    s.remove(a)
    assert s.plan() == []


def test_a_slice_samples_at_the_end_only() -> None:
    sequence = Sequence((1, 2, 3))
    assert [Slice(sequence, 0, n).samples for n in (2, 3)] == [False, True]


def batch(scheduler: Scheduler, length: int) -> Sequence:
    """Work that nobody waits for."""
    sequence = Sequence(tuple(range(900, 900 + length)), patient=True)
    scheduler.add(sequence)
    return sequence


def test_what_somebody_waits_for_is_begun_before_work_in_batches() -> None:
    s = scheduler(sequences=1)
    (first,) = added(s, 2)
    step(s)
    patient = batch(s, 2)
    (second,) = added(s, 3)
    s.remove(first)
    assert [part[0] for part in step(s)] == [second]
    s.remove(second)
    assert [part[0] for part in step(s)] == [patient]


def test_work_in_batches_lets_a_bounded_number_pass() -> None:
    s = scheduler(sequences=1)
    patient = batch(s, 2)
    passed = 0
    while patient in s.waiting:
        (other,) = added(s, 1)
        [(running, _, _)] = step(s)
        s.remove(running)
        if running is other:
            passed += 1
    assert passed == PATIENCE


def test_work_in_batches_gives_up_its_blocks_first_and_once() -> None:
    s = scheduler(blocks=4, tokens=16)
    patient = batch(s, 7)
    step(s)
    (urgent,) = added(s, 7)
    for _ in range(3):
        step(s)  # both come to need a third block, and there is none
    assert (s.running, list(s.waiting)) == ([urgent], [patient])
    s.remove(urgent)
    step(s)
    added(s, 3)
    while len(patient.ids) < 16:
        step(s)
        assert patient in s.running  # it has given way, and is the oldest now
