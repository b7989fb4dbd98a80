"""Where a model call goes, for every state that the workers can be in."""

from __future__ import annotations

import pytest

from services.router.core import ALIVE, Wanted, Workers, place, place_direct
from shared.contracts.work import Target
from shared.contracts.workers import WorkerState
from shared.errors import Permanent, Transient
from shared.models import ModelsFile, OpenVinoModel, Prices

MODELS = ModelsFile(
    models={
        "small": OpenVinoModel(path="s", prices=Prices(input="0.02", output="0.06")),
        "large": OpenVinoModel(path="l"),
    },
    routes={"default": ("small", "large")},
)


def workers(*states: tuple[str, str, int, int], at: float = 0.0) -> Workers:
    """Workers by (name, model, slots, running)."""
    found = Workers()
    for name, model, slots, running in states:
        state = WorkerState(
            worker=name, model=model, engine="openvino", slots=slots, running=running
        )
        found.report(state, at)
    return found


def put(found: Workers, route: str = "default", now: float = 0.0) -> tuple[str, str]:
    target = place(Wanted(route), MODELS, found, now)
    return target.model, target.worker


def test_a_target_carries_the_prices() -> None:
    target = place(Wanted("default"), MODELS, workers(("a", "small", 2, 0)), 0.0)
    assert target == Target(
        model="small",
        worker="a",
        input_price=2_000_000,
        output_price=6_000_000,
        why="emptiest",
    )


@pytest.mark.parametrize(
    ("running", "served", "why"),
    [(0, "", "emptiest"), (0, "a", "served the session"), (2, "a", "all are full")],
)
def test_a_target_says_why_it_was_chosen(running: int, served: str, why: str) -> None:
    found = workers(("a", "small", 2, running))
    assert place(Wanted("default", served=served), MODELS, found, 0.0).why == why


def test_the_emptiest_worker_is_chosen() -> None:
    assert put(workers(("a", "small", 8, 3), ("b", "small", 8, 1))) == ("small", "b")


def test_names_decide_between_equals() -> None:
    assert put(workers(("b", "small", 8, 1), ("a", "small", 8, 1))) == ("small", "a")


@pytest.mark.parametrize(
    ("state", "chosen"),
    [
        (("b", "small", 8, 7), "b"),  # fuller, but it has the beginning of the prompt
        (("b", "small", 8, 8), "a"),  # no slot: whoever has one
        (("b", "large", 8, 0), "a"),  # another model by now
        (("c", "small", 8, 1), "a"),  # gone
    ],
)
def test_the_worker_of_the_sessions_last_call_is_preferred(
    state: tuple[str, str, int, int], chosen: str
) -> None:
    found = workers(("a", "small", 8, 0), state)
    assert place(Wanted("default", served="b"), MODELS, found, 0.0).worker == chosen


def test_a_burst_spreads_over_the_workers() -> None:
    found = workers(("a", "small", 3, 0), ("b", "small", 3, 1))
    chosen = [put(found)[1] for _ in range(5)]
    assert chosen == ["a", "a", "b", "a", "b"]
    assert put(found) == ("small", "any")


def test_waiting_jobs_count_as_load() -> None:
    found = workers(("b", "small", 8, 1))
    found.report(WorkerState(worker="a", model="small", engine="openvino", slots=8, waiting=2), 0.0)
    assert put(found) == ("small", "b")


def test_a_report_replaces_the_estimate() -> None:
    found = workers(("a", "small", 1, 0))
    assert put(found) == ("small", "a")
    assert put(found) == ("small", "any")
    found.report(WorkerState(worker="a", model="small", engine="openvino", slots=1), 1.0)
    assert put(found, now=1.0) == ("small", "a")


def test_a_small_full_worker_does_not_hide_a_large_free_one() -> None:
    assert put(workers(("a", "small", 1, 1), ("b", "small", 8, 2))) == ("small", "b")


def test_the_next_model_of_the_route_takes_over_when_the_first_is_full() -> None:
    found = workers(("a", "small", 1, 1), ("b", "large", 1, 0))
    assert put(found) == ("large", "b")
    assert put(found) == ("small", "any")


def test_a_model_without_workers_is_passed_over() -> None:
    found = workers(("b", "large", 1, 1))
    assert put(found) == ("large", "any")


def test_the_name_of_a_model_is_a_route_to_it_alone() -> None:
    found = workers(("a", "small", 1, 0), ("b", "large", 1, 0))
    assert put(found, "large") == ("large", "b")


def test_an_unknown_route_is_refused() -> None:
    with pytest.raises(Permanent) as caught:
        put(workers(("a", "small", 1, 0)), "nowhere")
    assert caught.value.code == "unknown_route"


def test_without_a_worker_the_call_waits() -> None:
    with pytest.raises(Transient) as caught:
        put(Workers())
    assert caught.value.code == "no_worker"
    assert caught.value.retry_after is not None
    assert "small, large" in caught.value.detail


def test_a_silent_worker_is_not_chosen() -> None:
    found = workers(("a", "small", 8, 0))
    assert put(found, now=ALIVE) == ("small", "a")
    with pytest.raises(Transient):
        put(found, now=ALIVE + 0.01)


def test_silent_workers_are_taken_out_once() -> None:
    found = workers(("a", "small", 8, 0))
    found.report(WorkerState(worker="b", model="small", engine="openvino", slots=1), 5.0)
    assert found.expired(ALIVE) == []
    assert [state.worker for state in found.expired(ALIVE + 0.01)] == ["a"]
    assert found.expired(ALIVE + 0.01) == []
    assert [seen.state.worker for seen in found.of("small", ALIVE + 0.01)] == ["b"]


def test_a_worker_that_says_goodbye_is_known_no_more() -> None:
    found = workers(("a", "small", 8, 0))
    gone = found.gone("a")
    assert gone is not None
    assert gone.worker == "a"
    assert found.gone("a") is None
    assert found.of("small", 0.0) == []


def test_a_completion_always_goes_to_one_worker() -> None:
    found = workers(("a", "small", 1, 3), ("b", "small", 1, 2), ("c", "large", 1, 1))
    chosen = [place_direct(Wanted("default"), MODELS, found, 0.0).worker for _ in range(3)]
    assert chosen == ["b", "a", "b"]


def test_a_completion_takes_a_free_slot_where_there_is_one() -> None:
    found = workers(("a", "small", 1, 1), ("b", "large", 1, 0))
    target = place_direct(Wanted("default"), MODELS, found, 0.0)
    assert (target.model, target.worker) == ("large", "b")


def test_a_completion_without_a_worker_is_refused() -> None:
    with pytest.raises(Transient):
        place_direct(Wanted("default"), MODELS, Workers(), 0.0)


def able(*states: tuple[str, str, tuple[str, ...] | None, int]) -> Workers:
    """Workers by (name, model, abilities, free slots)."""
    found = Workers()
    for name, model, abilities, free in states:
        state = WorkerState(
            worker=name, model=model, engine="x", slots=2, running=2 - free, abilities=abilities
        )
        found.report(state, 0.0)
    return found


LOGPROBS = Wanted("default", needs={"logprobs": "logprobs"})
NOTHING: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        (able(("a", "small", NOTHING, 2), ("b", "small", ("logprobs",), 1)), ("small", "b")),
        (able(("a", "small", NOTHING, 2), ("b", "large", ("logprobs",), 2)), ("large", "b")),
        (able(("a", "small", None, 2), ("b", "large", ("logprobs",), 2)), ("small", "a")),
        (able(("a", "small", ("penalties",), 2), ("b", "large", None, 1)), ("large", "b")),
        # none of them is free: a shared lane only where all who read it can
        (able(("a", "small", NOTHING, 0), ("b", "small", ("logprobs",), 0)), ("small", "b")),
        (able(("a", "small", ("logprobs",), 0), ("b", "small", None, 0)), ("small", "any")),
    ],
)
def test_a_call_goes_to_the_first_that_can_do_what_is_wanted(
    found: Workers, chosen: tuple[str, str]
) -> None:
    target = place(LOGPROBS, MODELS, found, 0.0)
    assert (target.model, target.worker) == chosen
    direct = place_direct(LOGPROBS, MODELS, found, 0.0)
    assert found.seen[direct.worker].state.can(LOGPROBS.needs)


def test_all_that_is_wanted_has_to_be_there_at_once() -> None:
    found = able(("a", "small", ("logprobs",), 2), ("b", "large", ("penalties",), 2))
    both = Wanted("default", needs={"logprobs": "logprobs", "penalties": "logit_bias"})
    with pytest.raises(Permanent) as refused:
        place(both, MODELS, found, 0.0)
    assert refused.value.code == "unsupported_demand"


def test_what_no_model_of_the_route_can_do_is_refused_by_name() -> None:
    found = able(("a", "small", ("logprobs",), 2), ("b", "large", NOTHING, 2))
    wanted = Wanted("default", needs={"logprobs": "logprobs", "penalties": "logit_bias"})
    with pytest.raises(Permanent, match="penalties") as refused:
        place(wanted, MODELS, found, 0.0)
    assert (refused.value.code, refused.value.field) == ("unsupported_demand", "logit_bias")


def test_a_model_without_a_worker_may_have_one_later() -> None:
    with pytest.raises(Transient, match="large") as refused:
        place(LOGPROBS, MODELS, able(("a", "small", NOTHING, 2)), 0.0)
    assert refused.value.code == "no_worker"


def test_a_worker_without_slots_says_why_nobody_serves() -> None:
    found = workers(("b", "large", 0, 0))
    state = WorkerState(worker="a", model="small", engine="provider", slots=0, out="look at KEY")
    found.report(state, 0.0)
    with pytest.raises(Transient) as refused:
        put(found)
    assert refused.value.code == "no_worker"
    assert refused.value.detail.endswith("small, large at the moment; look at KEY")
    found.report(WorkerState(worker="c", model="large", engine="openvino", slots=1), 0.0)
    assert put(found) == ("large", "c")
