"""The placing of a completion: what is read of it, what is added to it, nothing else changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from shared.bus.direct import Asked, asked, event_of, placed
from shared.contracts.base import decode, encode
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import ChatMessage, DirectRequest, Target
from shared.errors import Permanent
from tests.contract.examples import EXAMPLES

REQUEST = DirectRequest(
    id="c1",
    tenant="acme",
    model="default",
    messages=(ChatMessage(role="user", content='ein "Gruß",\n"target": {}}'),),
)
TARGET = Target(model="nano", worker="w1", input_price=3)


def test_what_is_read_is_what_placement_needs():
    assert asked(encode(REQUEST)) == Asked(id="c1", tenant="acme", model="default")
    needs = {"logprobs": "logprobs"}
    assert asked(encode(replace(REQUEST, needs=needs))).needs == needs


@pytest.mark.parametrize("before", [None, Target(model="other")])
@pytest.mark.parametrize("end", [b"", b" \r\n"])
def test_the_target_is_added_and_nothing_else_changes(before, end):
    body = encode(replace(REQUEST, target=before)) + end
    assert decode(placed(body, TARGET), DirectRequest) == replace(REQUEST, target=TARGET)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"[]", None),
        (b'{"id": "c1", "tenant": "acme"}', "model"),
        (b'{"id": 1, "tenant": "acme", "model": "m", "messages": []}', "id"),
        (b'{"id": "c1", "tenant": "acme", "model": "m", "messages": [} ', None),
    ],
)
def test_what_is_no_completion_is_refused_by_name(body, field):
    with pytest.raises(Permanent) as refused:
        asked(body)
    assert (refused.value.code, refused.value.field) == ("invalid_message", field)


@pytest.mark.parametrize(
    "event", [EXAMPLES[DirectEvent], DirectEvent(text='é "👋"'), DirectEvent()]
)
def test_an_event_is_read_as_every_message(event):
    assert event_of(encode(event)) == event


@pytest.mark.parametrize(
    ("body", "field"),
    [(b"", None), (b"[]", None), (b'{"text": 1}', "text"), (b'{"text": "\xff"}', None)],
)
def test_what_is_no_event_is_refused_by_name(body, field):
    with pytest.raises(Permanent) as refused:
        event_of(body)
    assert (refused.value.code, refused.value.field) == ("invalid_message", field)


@pytest.mark.parametrize("read", [asked, event_of])
@pytest.mark.parametrize("depth", [2_000, 100_000])
def test_what_nests_too_deep_is_invalid(read: Callable[[bytes], object], depth: int) -> None:
    with pytest.raises(Permanent, match="invalid_message"):
        read(b'{"usage":' + b"[" * depth + b"]" * depth + b"}")
