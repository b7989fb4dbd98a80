"""The codec: small bodies out, any release in, and an error that says where."""

from __future__ import annotations

import pytest

from shared.contracts.agents import AgentSpec, Limits
from shared.contracts.base import SessionRef, decode, encode, step_id
from shared.contracts.facts import Inferred, Usage
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.work import RunTool
from shared.errors import Permanent


def test_defaults_are_left_out() -> None:
    assert encode(Limits()) == b"{}"
    assert encode(Limits(max_steps=3)) == b'{"max_steps":3}'
    assert encode(Usage(input=2)) == b'{"input":2}'


def test_what_a_later_release_adds_is_ignored() -> None:
    body = b'{"input":"hi","colour":3,"limits":{"max_steps":2,"max_cost":1}}'
    found = decode(body, TaskSubmitted)
    assert (found.input, found.limits.max_steps) == ("hi", 2)


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b"{}", TaskSubmitted, "input"),
        (b'{"input":3}', TaskSubmitted, "input"),
        (b'{"input":"a","limits":{"max_steps":1.5}}', TaskSubmitted, "limits.max_steps"),
        (b'{"input":"a","sampling":{"stop":["x",2]}}', TaskSubmitted, "sampling.stop[1]"),
        (b'{"input":"a","metadata":{"k":1}}', TaskSubmitted, "metadata[...]"),
        (b'{"input":[{"role":"user"}]}', TaskSubmitted, "input[0].content"),
        (b'{"input":[{"content":"x"}]}', TaskSubmitted, "input[0].role"),
        (b'{"task":"t","step":0,"finish":"bored"}', Inferred, "finish"),
        (b'{"name":"a","limits":[]}', AgentSpec, "limits"),
        (b"[]", TaskSubmitted, None),
        (b"", TaskSubmitted, None),
        (b"\xff", TaskSubmitted, None),
        (b'{"input": NaN}', TaskSubmitted, None),
        (b"[" * 5000, TaskSubmitted, None),
    ],
)
def test_an_error_names_the_field(body: bytes, kind: type, field: str | None) -> None:
    with pytest.raises(Permanent) as caught:
        decode(body, kind)
    assert (caught.value.code, caught.value.field) == ("invalid_message", field)
    assert caught.value.detail


def test_text_that_is_no_unicode_is_refused_when_it_is_written() -> None:
    with pytest.raises(Permanent) as caught:
        encode(TaskSubmitted(input="\ud800"))
    assert caught.value.code == "invalid_message"


@pytest.mark.parametrize("text", ["", "ä€😀", "\x00\x1f", "line\nline\u2028", '"\\'])
def test_text_stays_as_it_is(text: str) -> None:
    assert decode(encode(TaskSubmitted(input=text)), TaskSubmitted).input == text


def test_arguments_stay_the_text_that_the_model_wrote() -> None:
    text = '{"a":  1.0, "a": 2}'
    tool = RunTool(ref=SessionRef("t", "s"), task="t", step=1, call="c", name="n", arguments=text)
    assert decode(encode(tool), RunTool) == tool


def test_step_ids_are_derived() -> None:
    assert step_id("t1", 3) == step_id("t1", 3) == "t1.3"
