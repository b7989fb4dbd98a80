"""Log lines, without a process around them; and the context that messages carry."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog

from shared.contracts.base import SessionRef
from shared.contracts.facts import Cancelled, Parked
from shared.contracts.log import StoredFact
from shared.telemetry import (
    Handled,
    configure,
    handled,
    handling,
    mask,
    onward,
    requested,
    serving,
    traceparent,
)
from shared.trace import TraceContext, context_of, span_id_of, trace_id_of

REF = SessionRef("acme", "s1")
TRACE = "ab" * 16
GIVEN = f"00-{TRACE}-{'cd' * 8}-01"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def message(subject: str = "work.route", **headers: str) -> Handled:
    return Handled(subject, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("handled", "fields"),
    [
        (
            message(Nats_Msg_Id="acme/s1/t1.3/work", Millrace_Task="t1", traceparent=GIVEN),
            {"tenant": "acme", "session": "s1", "task": "t1", "step": 3, "trace_id": TRACE},
        ),
        (
            message("run.3.acme.s1.inferred", Millrace_Task="t1"),
            {
                **{"tenant": "acme", "session": "s1", "task": "t1"},
                "trace_id": trace_id_of(REF, "t1"),
            },
        ),
        (
            Handled("run.3.acme.s1.task.helper", {"Nats-Msg-Id": "mine"}, sequence=7),
            {
                **{"tenant": "acme", "session": "s1", "task": "mine"},
                "trace_id": trace_id_of(REF, "mine"),
            },
        ),
        (message("docs.acme.default.x"), {"tenant": "acme", "session": "_"}),
        (message("elsewhere", traceparent="nonsense"), {}),
    ],
)
def test_a_message_says_whose_it_is(handled: Handled, fields: dict[str, object]) -> None:
    found = handled.fields()
    if found.get("session") and not found.get("task"):
        found["session"] = fields["session"]
    assert found == fields


@pytest.mark.parametrize(
    ("fact", "step"),
    [(Parked(task="t1", step=4, reason="approval"), {"step": 4}), (Cancelled(task="t1"), {})],
)
def test_a_fact_says_whose_it_is(fact: Parked | Cancelled, step: dict[str, int]) -> None:
    stored = StoredFact(9, 1.0, REF, "fact", "", "t1", fact, {"traceparent": GIVEN})
    found = Handled(headers=stored.headers, stored=stored).fields()
    base = {"tenant": "acme", "session": "s1", "task": "t1", "trace_id": TRACE}
    assert found == base | step


@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_a_line_has_the_message_in_hand_and_no_secret(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = configure("test", "info", form)  # type: ignore[arg-type]  # one of the two
    handling(message(Nats_Msg_Id="acme/s1/t1.3/work", Millrace_Task="t1", traceparent=GIVEN))
    log.info(
        "thing.happened",
        error="no route to nats://ada:hunter2@broker:4222",
        api_key="visible",
        nested={"password": "visible", "tokens": 3},
        tokens=17,
    )
    line = capsys.readouterr().err
    assert "hunter2" not in line
    assert "visible" not in line
    assert "tokens" in line
    assert "17" in line
    for part in ("thing.happened", "t1", "acme", TRACE):
        assert part in line
    if form == "json":
        found = orjson.loads(line)
        assert (found["service"], found["step"], found["level"]) == ("test", 3, "info")
        assert found["error"] == "no route to nats://***@broker:4222"


def test_a_traceback_shows_no_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of a request hold its headers, and so its key."""
    logging.getLogger().handlers.clear()
    configure("test", "info", "json")

    def serve(headers: list[tuple[bytes, bytes]]) -> None:
        raise RuntimeError(f"{len(headers)} headers")

    try:
        serve([(b"x-any", b"value-of-a-header")])
    except RuntimeError:
        logging.getLogger("uvicorn.error").exception("it failed")
    line = capsys.readouterr().err
    assert orjson.loads(line)["exception"][0]["exc_value"] == "1 headers"
    assert "value-of-a-header" not in line


def test_what_a_library_says_has_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().handlers.clear()
    configure("test", "info", "json")
    logging.getLogger("some.library").warning("sent Bearer %s", "abcdef")
    try:
        int("broken")
    except ValueError:
        logging.getLogger("some.library").exception("it broke")
    first, second = [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (first["event"], first["logger"], first["service"]) == (
        "library",
        "some.library",
        "test",
    )
    assert first["message"] == "sent Bearer ***"
    assert "broken" in str(second["exception"])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("nats://token@host:4222 is away", "nats://***@host:4222 is away"),
        ("key sk-proj-0123456789 is bad", "key *** is bad"),
        (f"mr_{'0' * 16}_{'a' * 64}", "***"),
        (f"seed SUA{'B' * 55}", "seed ***"),
        (
            "https://example.org/a@b and ada@example.org",
            "https://example.org/a@b and ada@example.org",
        ),
        ("2,000 tokens", "2,000 tokens"),
    ],
)
def test_secrets_are_told_by_their_form(text: str, clean: str) -> None:
    assert mask(text) == clean


def test_what_asyncio_says_at_every_end_of_tls_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logging.getLogger().handlers.clear()
    configure("tools")
    said = logging.getLogger("asyncio")
    said.warning("returning true from eof_received() has no effect when using ssl")
    said.warning("something else")
    assert "eof_received" not in (written := capsys.readouterr().err)
    assert "something else" in written


def test_what_is_published_for_the_task_in_hand_is_of_its_trace() -> None:
    handling(message(Millrace_Task="t1", traceparent=GIVEN))
    assert traceparent(REF, "t1", "2") == f"00-{TRACE}-{span_id_of(REF, 't1', '2')}-01"
    assert traceparent(REF, "t2", "2").split("-")[1] == trace_id_of(REF, "t2")
    assert traceparent(REF, "t1", "2", "ef" * 16).split("-")[1] == "ef" * 16


def test_a_question_goes_on_with_what_names_its_task() -> None:
    handling(message(Millrace_Task="t1", traceparent=GIVEN, Other="x"))
    assert onward() == {"Millrace-Task": "t1", "traceparent": GIVEN}


def test_a_line_of_a_request_has_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure("test", "info", "json")

    def say() -> None:
        serving(TraceContext(TRACE, "cd" * 8))
        log.info("thing.happened")

    contextvars.Context().run(say)
    assert orjson.loads(capsys.readouterr().err)["trace_id"] == TRACE


def test_nothing_is_in_hand_to_begin_with() -> None:
    """Each test, like each asyncio task, has a context of its own."""

    def look() -> tuple[object, object]:
        return handled(), requested()

    assert contextvars.Context().run(look) == (None, None)


def test_a_request_is_served_until_the_next_one() -> None:
    serving(TraceContext(TRACE, "cd" * 8))
    assert str(requested()) == GIVEN


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (GIVEN, True),
        (GIVEN[:-1] + "0", False),
        (GIVEN[:-2] + "03", True),
        ("cc" + GIVEN[2:] + "-x", True),
    ],
)
def test_a_context_is_read(header: str, sampled: bool) -> None:
    assert context_of(header) == TraceContext(TRACE, "cd" * 8, sampled)


@pytest.mark.parametrize(
    "header",
    [None, "", GIVEN + "-x", GIVEN.upper(), "ff" + GIVEN[2:], GIVEN.replace("cd", "00"), GIVEN[1:]],
)
def test_what_is_no_context_is_none(header: str | None) -> None:
    assert context_of(header) is None


@pytest.mark.parametrize(
    "header", [GIVEN, GIVEN[:-2] + "00", "cc" + GIVEN[2:] + "-x", "cc" + GIVEN[2:], GIVEN + "-x",
               "ff" + GIVEN[2:], GIVEN.replace("cd", "00"), GIVEN.replace("ab", "00"), "", "x"]
)  # fmt: skip
def test_the_log_reads_a_context_as_everybody_does(header: str) -> None:
    stored = StoredFact(
        1, 1.0, REF, "task", "", "t1", Cancelled(task="t1"), {"traceparent": header}
    )
    found = context_of(header)
    assert stored.trace_id == (found.trace_id if found else "")
