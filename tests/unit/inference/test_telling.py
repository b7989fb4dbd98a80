"""The numbers of what a viewer is told follow from the fact: thoughts first, then the text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.inference.core.answering import Piece, Telling
from services.inference.core.toolcalls import ReasoningDelta, ToolCall
from shared.contracts.facts import Inferred
from shared.events import deltas

words = st.text("ab", min_size=1, max_size=3)
CALL = ToolCall(0, "add", {}, "{}")


@given(st.lists(st.tuples(st.sampled_from("tsc"), words), max_size=12))
def test_what_is_told_can_be_cut_again_from_the_fact(script: list[tuple[str, str]]) -> None:
    telling, texts = Telling(), [text for kind, text in script if kind == "s"]
    numbers = iter(range(len(texts)))
    pieces: list[Piece] = [
        ReasoningDelta(text) if kind == "t" else (next(numbers), text) if kind == "s" else CALL
        for kind, text in script
    ]
    told = [one for piece in pieces if (one := telling.of(piece)) is not None]
    ends = [sum(map(len, texts[: n + 1])) for n in range(len(texts))]
    fact = Inferred(
        task="t",
        step=0,
        content="".join(texts),
        cuts=tuple(ends),
        reasoning="".join(text for kind, text in script if kind == "t"),
        thought_cuts=telling.thought_cuts,
    )
    again = [(one.index, one.text, one.reasoning) for one in deltas(fact)]
    assert [(one.index, one.text, one.reasoning) for one in told] == again


def test_a_fact_of_a_former_release_tells_no_thoughts() -> None:
    fact = Inferred(task="t", step=0, content="four", cuts=(2, 4), reasoning="2 + 2")
    assert [(one.text, one.reasoning) for one in deltas(fact)] == [("fo", ""), ("ur", "")]
