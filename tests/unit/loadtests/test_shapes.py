"""How many clients a curve asks for, and what the profiles are."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.operations import OPERATIONS
from loadtests.profiles import PROFILES, checked, only, rotation, start_of
from loadtests.shapes import CURVES, users_at
from shared.errors import Permanent

SHORT = PROFILES["short"]


@given(
    curve=st.sampled_from(sorted(CURVES)),
    users=st.integers(1, 500),
    seconds=st.floats(1, 1e5),
    place=st.floats(0, 0.999),
)
def test_there_is_always_somebody_and_never_too_many(
    curve: str, users: int, seconds: float, place: float
) -> None:
    found = users_at(curve, users, seconds, place * seconds)
    assert found is not None
    assert 1 <= found <= users


@pytest.mark.parametrize("curve", sorted(CURVES))
def test_a_curve_reaches_its_top_and_ends(curve: str) -> None:
    found = [users_at(curve, 40, 100, second) for second in range(101)]
    assert max(users for users in found if users) == 40
    assert found[-1] is None


def test_a_ramp_rises_and_a_spike_comes_back() -> None:
    ramp = [users_at("ramp", 10, 100, second) for second in range(100)]
    assert ramp == sorted(ramp)
    spike = [users_at("spike", 10, 100, second) for second in (10, 50, 90)]
    assert spike == [2, 10, 2]


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_profile_can_be_run(name: str) -> None:
    assert checked(PROFILES[name]).name == name


def test_the_profile_of_make_load_does_everything() -> None:
    assert set(SHORT.mix) == set(OPERATIONS)
    assert SHORT.tenants > 1
    assert SHORT.seconds <= 60


@pytest.mark.parametrize(
    ("field", "value"),
    [("users", 0), ("seconds", 0.0), ("mix", {}), ("tenants", 0), ("pause", -1.0), ("samples", 0)],
)
def test_a_profile_that_cannot_be_run_names_the_field(field: str, value: object) -> None:
    with pytest.raises(Permanent) as caught:
        checked(msgspec.structs.replace(SHORT, **{field: value}))
    assert (caught.value.code, caught.value.field) == ("invalid_profile", field)


def test_an_unknown_operation_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(Permanent, match="chat_stream") as caught:
        checked(only(SHORT, ("chat", "sing")))
    assert caught.value.code == "unknown_operation"


@given(st.dictionaries(st.sampled_from(sorted(OPERATIONS)), st.integers(1, 9), min_size=1))
def test_a_round_has_everything_as_often_as_it_weighs(mix: dict[str, int]) -> None:
    found = rotation(mix)
    assert {name: found.count(name) for name in mix} == mix


def test_a_round_is_spread_evenly() -> None:
    assert rotation({"a": 3, "b": 1}) == ("a", "a", "b", "a")


@pytest.mark.parametrize("length", [1, 2, 5, 13, 16])
def test_clients_begin_at_different_places(length: int) -> None:
    few = {start_of(number, length) for number in range(min(3, length))}
    assert len(few) == min(3, length)
    assert max(few) < length
