"""The conversation up to a response, as the input of another one: how a session branches.

A session goes on from its newest response only. Whoever goes on from an older one gets a session of
its own, which begins with what was said up to there; it lives on when the first one is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from services.ingress.core.responses.fold import Response
from shared.contracts.log import StoredFact
from shared.contracts.tasks import InputMessage, PastCall
from shared.transcript import Message, Transcript


def said_until(history: Iterable[StoredFact], response: Response) -> tuple[InputMessage, ...]:
    """What a model was shown and said up to the end of a response.

    The calls that wait for the client stand at its end, with the results of all others.
    """
    known = (stored for stored in history if stored.seq <= response.end_seq)
    shown = Transcript().fold(known).messages()
    found = [_message(one) for one in shown if one["role"] != "system"]
    return (*found, *_open_turn(response))


def _open_turn(response: Response) -> Sequence[InputMessage]:
    """The answer that was never finished: a transcript leaves it out."""
    if not response.waiting:
        return ()
    turn = response.turns[-1]
    waiting = {call.id for call in response.waiting}
    calls = tuple(
        PastCall(id=call.id, name=call.name, arguments=call.arguments)
        for call in turn.said.tool_calls
    )
    results = [
        InputMessage(role="tool", content=turn.results[call.id].text, tool_call_id=call.id)
        for call in calls
        if call.id not in waiting
    ]
    return [InputMessage(role="assistant", content=turn.said.content, tool_calls=calls), *results]


def _message(shown: Message) -> InputMessage:
    calls = shown.get("tool_calls")
    return InputMessage(
        role=str(shown["role"]),
        content=str(shown["content"]),
        tool_calls=tuple(_call(call) for call in calls) if isinstance(calls, list) else (),
        tool_call_id=str(shown.get("tool_call_id", "")),
    )


def _call(call: Mapping[str, object]) -> PastCall:
    function = call["function"]
    assert isinstance(function, dict)  # noqa: S101  # the transcript's own shape
    return PastCall(id=str(call["id"]), name=function["name"], arguments=function["arguments"])
