"""What a request needs of its worker follows from what it asks for, and names it."""

from __future__ import annotations

from typing import get_args

import pytest

from services.inference import ports
from services.inference.core.demands import Held
from shared.contracts import needs
from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.demands import Demands, ResponseFormat
from shared.contracts.needs import needs_of

LOOSE, STRICT = ToolSpec(name="a"), ToolSpec(name="b", strict=True)
JSON = ResponseFormat(type="json_object")


def test_the_words_are_those_of_the_engines() -> None:
    words = {needs.CONSTRAINT, needs.LOGPROBS, needs.PENALTIES, needs.UNTHINKING, needs.EMBEDDINGS}
    assert words == set(get_args(ports.Ability))


def test_only_not_to_think_at_all_needs_somebody_who_can() -> None:
    found = {effort: needs_of(Demands(effort=effort), Sampling(), ()) for effort in ("none", "low")}
    assert found == {"none": {"unthinking": "reasoning_effort"}, "low": {}}


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        (Sampling(frequency_penalty=0.1), "frequency_penalty"),
        (Sampling(presence_penalty=-0.1), "presence_penalty"),
        (Sampling(logit_bias={"5": 1.0}), "logit_bias"),
    ],
)
def test_penalties(sampling: Sampling, field: str) -> None:
    assert needs_of(Demands(), sampling, ()) == {"penalties": field}


@pytest.mark.parametrize(
    ("demands", "tools", "field"),
    [
        (Demands(), (LOOSE,), None),
        (Demands(), (LOOSE, STRICT), "tools"),
        (Demands(tool_choice="none"), (STRICT,), None),
        (Demands(tool_choice="required"), (LOOSE,), "tool_choice"),
        (Demands(tool_choice="function", function="b"), (LOOSE, STRICT), "tool_choice"),
        (Demands(response_format=JSON), (), "response_format"),
        (Demands(response_format=JSON, tool_choice="required"), (LOOSE,), "tool_choice"),
    ],
)
def test_a_constraint_is_what_a_worker_makes_of_it(
    demands: Demands, tools: tuple[ToolSpec, ...], field: str | None
) -> None:
    """The worker decides for itself: both must come to the same, and give it the same name."""
    held = Held(demands, tools)
    assert (held.constraint() is not None) == (field is not None)
    assert needs_of(demands, Sampling(), tools) == ({} if field is None else {"constraint": field})
    if field is not None:
        assert held.field_of("constraint") == field


def test_log_probabilities_without_alternatives_are_asked_for_too() -> None:
    assert needs_of(Demands(logprobs=0), Sampling(), ()) == {"logprobs": "logprobs"}
