"""Streamed answers on the one inbox of a connection: order, silence, a flood, a lost connection."""

from __future__ import annotations

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.replies import MOST, Replies
from shared.errors import Transient

PATIENT = 60.0


class Connection:
    """What `Replies` uses of a client: an inbox, and what is delivered there."""

    def new_inbox(self) -> str:
        return "_INBOX.x"

    async def subscribe(self, subject: str, cb, **_: int) -> None:
        assert subject == "_INBOX.x.*"
        self._receive = cb

    async def deliver(self, subject: str, *bodies: bytes) -> None:
        for body in bodies:
            await self._receive(Msg(Client(), subject=subject, data=body))


async def inbox() -> tuple[Connection, Replies]:
    connection = Connection()
    replies = Replies(connection)  # type: ignore[arg-type]  # all that it uses is there
    await replies.start()
    return connection, replies


async def test_each_asker_gets_its_own_answers_in_order():
    connection, replies = await inbox()
    with replies.open(PATIENT) as one, replies.open(PATIENT) as other:
        await connection.deliver(one.subject, b"1", b"2")
        await connection.deliver(other.subject, b"3")
        assert [(await one.next()).data, (await one.next()).data] == [b"1", b"2"]
        assert (await other.next()).data == b"3"


async def test_an_answer_to_nobody_is_dropped():
    connection, replies = await inbox()
    with replies.open(PATIENT) as gone:
        pass
    await connection.deliver(gone.subject, b"late")
    with replies.open(PATIENT) as one:
        assert one.subject != gone.subject
        await connection.deliver(one.subject, b"1")
        assert (await one.next()).data == b"1"


async def test_silence_ends_the_wait():
    _, replies = await inbox()
    with replies.open(0.02) as answers, pytest.raises(Transient) as silent:
        await answers.next()
    assert silent.value.code == "request_timeout"


async def test_who_does_not_take_its_answers_is_cut_off_and_nobody_else():
    connection, replies = await inbox()
    with replies.open(PATIENT) as slow, replies.open(PATIENT) as quick:
        await connection.deliver(slow.subject, *[b"x"] * (MOST + 1))
        await connection.deliver(quick.subject, b"1")
        with pytest.raises(Transient) as behind:
            await slow.next()
        assert behind.value.code == "slow_reader"
        assert (await quick.next()).data == b"1"


async def test_a_lost_connection_fails_who_waits_instead_of_leaving_a_gap():
    connection, replies = await inbox()
    with replies.open(PATIENT) as answers:
        await connection.deliver(answers.subject, b"1")
        replies.disconnected()
        await connection.deliver(answers.subject, b"3")
        with pytest.raises(Transient) as lost:
            await answers.next()
    assert lost.value.code == "bus_unavailable"
