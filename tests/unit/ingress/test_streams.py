"""The clock of all open streams, and the frames that their viewers share."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from services.ingress.adapters.http.streams import Streams
from services.ingress.core.tasks.events import EventJson
from services.ingress.core.tasks.socket import command_of, frame_of, id_of
from shared.clock import monotonic
from shared.contracts.log import Event
from shared.contracts.tokens import TokenDelta
from shared.errors import Permanent
from tests.integration.waiting import until

DELTA = TokenDelta(task="t1", step=0, index=0, text="x")


class FakeStream:
    """Keeps what the clock told it."""

    def __init__(self, waits_since: float = 0.0, *, ends: bool = True) -> None:
        self.waits_since, self._ends = waits_since, ends
        self.beats = 0
        self.told: list[str] = []

    def beat(self) -> None:
        self.beats += 1

    def cut(self) -> None:
        self.told.append("cut")

    def stop(self) -> bool:
        self.told.append("stop")
        return self._ends


async def test_silent_ones_beat_and_stuck_ones_are_cut():
    streams = Streams(beat=0.03, patience=1.0)
    silent, stuck, slow = FakeStream(), FakeStream(monotonic() - 9), FakeStream(monotonic())
    closed = [streams.add(stream) for stream in (silent, stuck, slow)]
    await until(lambda: silent.beats and stuck.told)
    assert (stuck.beats, stuck.told[0]) == (0, "cut")
    assert (slow.beats, slow.told) == (0, [])
    for close in closed:
        close()
    assert len(streams) == 0


async def test_whoever_ends_at_once_is_waited_for_and_late_ones_are_told_too():
    streams = Streams()
    ending, draining = FakeStream(), FakeStream(ends=False)
    close = streams.add(ending)
    streams.add(draining)
    stopping = asyncio.ensure_future(streams.stop(5.0))
    await asyncio.sleep(0.01)
    assert (ending.told, draining.told, stopping.done()) == (["stop"], ["stop"], False)
    close()
    await stopping
    late = FakeStream()
    streams.add(late)
    assert late.told == ["stop"]


async def test_one_that_never_ends_does_not_hold_up_the_shutdown():
    streams = Streams()
    streams.add(FakeStream())
    await streams.stop(0.01)


def test_an_event_is_rendered_once_for_all_viewers():
    shown = EventJson()
    first = shown.of(Event("3:t1.0.1.0", "delta", 1.0, "t1", DELTA))
    assert shown.of(Event("4:t1.0.1.0", "delta", 2.0, "t1", DELTA)) is first
    other = TokenDelta(task="t1", step=0, index=1, text="y")
    assert orjson.loads(shown.of(Event("5", "delta", 1.0, "t1", other)))["text"] == "y"


def test_what_is_kept_is_bounded():
    shown = EventJson()
    for index in range(1000):
        delta = TokenDelta(task="t1", step=0, index=index, text="x" * (20_000 if index % 2 else 1))
        assert orjson.loads(shown.of(Event("1", "delta", 1.0, "t1", delta)))["index"] == index
    assert len(shown._kept) == 256


def test_a_command_has_the_fields_of_its_http_body():
    frame = frame_of(
        '{"type": "steer", "id": 7, "task": "t1", "text": "x", "idempotency_key": "k"}'
    )
    command = command_of(frame)
    assert (command.type, command.id, command.task, command.key) == ("steer", 7, "t1", "k")
    assert command.body.model_dump() == {"text": "x", "by": ""}


@pytest.mark.parametrize("given", [True, 1.5, None, [1], "x" * 129])
def test_an_id_that_cannot_be_repeated_is_none(given):
    assert id_of({"id": given}) is None
    if given is not None:
        with pytest.raises(Permanent) as refused:
            command_of({"type": "unfollow", "id": given})
        assert refused.value.field == "id"
