"""What counts as a right answer: a wrong one is a failure of the load."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loadtests import answers
from loadtests.documents import query_of, text_of
from loadtests.questions import DEFAULT, Question, read_questions
from loadtests.sse import EventReader, ServerEvent
from shared.errors import Permanent

ASKED = Question("What is 17 * 23?", ("391",))


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> str:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return msgspec.json.encode({"choices": [choice], **more}).decode()


def code_of(stream: answers.ChatStream | answers.TaskStream | answers.ResponseStream) -> str:
    with pytest.raises(Permanent) as caught:
        stream.close()
    return caught.value.code


def test_the_expected_text_must_stand_in_the_answer_as_a_whole() -> None:
    answers.check_text(ASKED, "17 * 23 = 391.")
    with pytest.raises(Permanent, match="wrong_answer"):
        answers.check_text(ASKED, "17 * 23 = 3910.")


def test_an_empty_answer_is_wrong_whatever_was_expected() -> None:
    with pytest.raises(Permanent, match="empty_answer"):
        answers.check_text(Question("Hello!"), " \n")


def test_another_shape_is_a_failure_with_a_code() -> None:
    with pytest.raises(Permanent, match="wrong_shape: no Completion"):
        answers.read(b'{"choices": "none"}', answers.Completion)
    with pytest.raises(Permanent, match="wrong_shape"):
        answers.read(b"<html>", answers.Message)


def test_a_chat_stream_adds_up() -> None:
    stream = answers.ChatStream()
    told = [stream.take(chunk("Hel", millrace={"task": "t1"})), stream.take(chunk("lo"))]
    told += [stream.take(chunk(finish="stop", usage={"completion_tokens": 2}))]
    told += [stream.take("[DONE]")]
    stream.close()
    assert told == [True, True, False, False]
    assert (stream.text, stream.tokens, stream.task) == ("Hello", 2, "t1")


def test_a_chat_stream_without_its_end_is_a_failure() -> None:
    stream = answers.ChatStream()
    stream.take(chunk("Hello", finish="stop"))
    assert code_of(stream) == "no_end"


def test_a_chat_stream_that_gives_no_reason_for_its_end_is_a_failure() -> None:
    stream = answers.ChatStream()
    stream.take(chunk("Hello"))
    stream.take("[DONE]")
    assert code_of(stream) == "wrong_end"


def test_nothing_comes_behind_the_end() -> None:
    stream = answers.ChatStream()
    stream.take("[DONE]")
    with pytest.raises(Permanent, match="after_the_end"):
        stream.take(chunk("more"))
    task = answers.TaskStream()
    task.take("done", '{"task": "t1", "status": "completed"}')
    with pytest.raises(Permanent, match="after_the_end"):
        task.take("done", '{"task": "t1", "status": "completed"}')


def test_a_task_stream_adds_up() -> None:
    stream = answers.TaskStream()
    assert not stream.take("accepted", "{}")
    assert stream.take("delta", '{"text": "39"}')
    assert stream.take("delta", '{"text": "1"}')
    done = {"task": "t1", "status": "completed", "output": "391"}
    stream.take("done", msgspec.json.encode(done | {"totals": {"steps": 3}}).decode())
    assert (stream.close().output, stream.close().totals.steps) == ("391", 3)


@pytest.mark.parametrize(
    ("status", "output", "code"),
    [("failed", "", "wrong_end"), ("completed", "391", "lost_text")],
)
def test_a_task_that_failed_or_lost_text_is_a_failure(status: str, output: str, code: str) -> None:
    stream = answers.TaskStream()
    stream.take("delta", '{"text": "39"}')
    done = {"task": "t1", "status": status, "output": output}
    stream.take("done", msgspec.json.encode(done).decode())
    assert code_of(stream) == code


def test_a_task_stream_without_done_is_a_failure() -> None:
    assert code_of(answers.TaskStream()) == "no_end"


def response_event(kind: str, number: int, status: str = "") -> str:
    event: dict[str, object] = {"type": kind, "sequence_number": number}
    if status:
        event["response"] = {"id": "r1", "status": status, "output": []}
    return msgspec.json.encode(event).decode()


def test_a_response_stream_ends_with_its_response() -> None:
    stream = answers.ResponseStream()
    assert not stream.take(response_event("response.created", 0, "queued"))
    assert stream.take(response_event("response.output_text.delta", 7))
    stream.take(response_event("response.completed", 8, "completed"))
    assert stream.close().id == "r1"


def test_a_response_that_failed_or_has_no_end_is_a_failure() -> None:
    stream = answers.ResponseStream()
    assert code_of(stream) == "no_end"
    stream.take(response_event("response.failed", 1, "failed"))
    assert code_of(stream) == "wrong_end"


def test_the_numbers_of_a_response_rise() -> None:
    stream = answers.ResponseStream()
    stream.take(response_event("response.created", 1))
    with pytest.raises(Permanent, match="wrong_order"):
        stream.take(response_event("response.in_progress", 1))


def test_events_are_read_line_by_line() -> None:
    reader = EventReader()
    lines = ["retry: 1000", "", ": sign of life", "id: 7", "event: done", "data: a", "data:b", ""]
    found = [event for line in lines if (event := reader.line(line)) is not None]
    assert found == [ServerEvent("done", "a\nb")]
    assert reader.line("data: c") is None
    assert reader.line("") == ServerEvent("message", "c")


def test_the_questions_beside_the_code_are_questions() -> None:
    found = read_questions(DEFAULT)
    assert len(found.agent) > 5
    assert all(question.expect for question in (*found.chat, *found.agent))


@pytest.mark.parametrize("text", ["chat: 7", "chat: []\nagent: []", "chats: []", "{", "[]"])
def test_what_is_no_file_of_questions_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(text)
    with pytest.raises(Permanent) as caught:
        read_questions(path)
    assert (caught.value.code, caught.value.field) == ("invalid_questions", "questions")


def test_each_client_stores_something_of_its_own() -> None:
    texts = {text_of(number, turn=1) for number in range(1287)}
    assert len(texts) == 1287
    assert text_of(1287, turn=1) in texts
    assert text_of(3, turn=1) != text_of(3, turn=2)
    assert query_of(3) == "how many coins does the clockmaker in the orchard count"
    assert text_of(3, turn=1).startswith("The clockmaker in the orchard counts coins:")
