"""Facts as lines of text: an icon, a kind and what is worth saying (pure)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from services.cli.core.words import clip, duration, plural, tokens
from shared.contracts import facts as f
from shared.contracts.base import step_id
from shared.contracts.log import Malformed
from shared.contracts.tasks import TaskSubmitted, said

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Line:
    """One fact in one line; `style` is a colour that any terminal has."""

    icon: str
    text: str
    style: str = ""


def describe(fact: f.Fact | Malformed) -> Line:
    """What a fact says."""
    return _LINES[type(fact)](fact)


def call_text(name: str, arguments: str) -> str:
    """`calculator(expression="17 * 23")`."""
    return f"{name}({arguments_text(arguments)})"


def arguments_text(arguments: str) -> str:
    """`expression="17 * 23"`; what is no JSON object stands as it is."""
    try:
        given = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        return clip(arguments, WIDTH)
    said = ", ".join(f"{key}={orjson.dumps(value).decode()}" for key, value in given.items())
    return clip(said, WIDTH)


def _submitted(fact: TaskSubmitted) -> Line:
    if fact.retry_of:
        return Line("→", f"goes on with {fact.retry_of}", "bold")
    return Line("→", clip(said(fact), WIDTH), "bold")


def _accepted(fact: f.Accepted) -> Line:
    limits = f"at most {plural(fact.limits.max_steps, 'step')}"
    return Line("·", f"{fact.agent.name} revision {fact.revision}, {limits}", "dim")


def _inferred(fact: f.Inferred) -> Line:
    timing = f"{fact.model} {duration(fact.timings.total_ms)}, {tokens(fact.usage)}"
    if fact.cached:
        timing = f"{fact.model} from the cache"
    calls = ", ".join(call_text(call.name, call.arguments) for call in fact.tool_calls)
    said = calls or clip(fact.content, WIDTH)
    return Line("●", f"{said}  [{timing}]", "cyan")


def _infer_failed(fact: f.InferFailed) -> Line:
    return Line("✗", f"attempt {fact.attempt}: {_error(fact.error)}", "red")


def _tool_done(fact: f.ToolDone) -> Line:
    return Line(
        "✔", f"{fact.name} = {clip(fact.result, WIDTH)}  [{duration(fact.duration_ms)}]", "green"
    )


def _tool_failed(fact: f.ToolFailed) -> Line:
    again = ", to be tried again" if fact.retry else ""
    took = duration(fact.duration_ms)
    return Line("✗", f"{fact.name}: {_error(fact.error)}{again}  [{took}]", "red")


def _tool_started(fact: f.ToolStarted) -> Line:
    return Line("▷", f"{fact.name} begins (attempt {fact.attempt})", "dim")


def _parked(fact: f.Parked) -> Line:
    why = fact.reason.replace("_", " ")
    detail = f": {clip(fact.detail, WIDTH)}" if fact.detail else ""
    return Line("⏸", f"step {fact.step} waits, {why}{detail}", "yellow")


def _approved(fact: f.Approved) -> Line:
    changed = " with other arguments" if fact.arguments is not None else ""
    return Line("▶", f"step {fact.step} approved{changed}{_by(fact.by, fact.note)}", "green")


def _rejected(fact: f.Rejected) -> Line:
    return Line("⊘", f"step {fact.step} rejected{_by(fact.by, fact.note)}", "yellow")


def _steered(fact: f.Steered) -> Line:
    return Line("↪", f"{clip(fact.text, WIDTH)}{_by(fact.by, '')}", "bold")


def _by(who: str, why: str) -> str:
    return (f" by {who}" if who else "") + (f": {clip(why, WIDTH)}" if why else "")


def _cancelled(fact: f.Cancelled) -> Line:
    return Line("⊘", f"cancel asked{_by(fact.by, fact.reason)}", "yellow")


def _timer(fact: f.TimerFired) -> Line:
    step = "" if fact.step is None else f" of step {fact.step}"
    return Line("⏱", f"{fact.timer}{step} passed", "yellow")


def _done(fact: f.Done) -> Line:
    if fact.status == "completed":
        return Line("■", clip(fact.output, WIDTH), "bold green")
    why = f": {_error(fact.error)}" if fact.error else ""
    return Line("■", f"{fact.status}{why}", "bold red" if fact.status == "failed" else "yellow")


def _forked(fact: f.Forked) -> Line:
    changes = [f"route {fact.route}"] if fact.route else []
    changes += [] if fact.input is None else ["another input"]
    changes += [f"another result of step {step}" for step in fact.results]
    changed = f", with {', '.join(changes)}" if changes else ""
    place = step_id(fact.task, fact.step)
    return Line("⑂", f"goes on from {place} of {fact.parent}{changed}{_by(fact.by, '')}", "bold")


def _noted(fact: f.Noted) -> Line:
    parts = [f"{len(fact.messages)} messages"] if fact.messages else []
    parts += [f"hides {', '.join(fact.hidden)}"] if fact.hidden else []
    parts += ["metadata"] if fact.metadata is not None else []
    return Line("✎", ", ".join(parts), "cyan")


def _deleted(fact: f.Deleted) -> Line:
    calls = plural(sum(line.calls for line in fact.usage), "model call")
    return Line("⌫", f"session deleted, {calls} remain on the bill{_by(fact.by, '')}", "yellow")


def _completed(fact: f.Completed) -> Line:
    if fact.error is not None:
        return Line("✗", f"{fact.model}, {_error(fact.error)}", "red")
    return Line("●", f"{fact.model}, {tokens(fact.usage)}", "cyan")


def _refused(fact: f.Refused) -> Line:
    return Line("✗", f"{fact.count} x {fact.route}: {fact.code} ({fact.status})", "red")


def _malformed(fact: Malformed) -> Line:
    return Line("?", f"unreadable: {_error(fact.error)}", "red")


def _error(error: Any) -> str:  # noqa: ANN401  # a Failure; lines are looked up by type
    return f"{error.code} ({error.detail})" if error.detail else str(error.code)


_LINES: dict[type, Callable[[Any], Line]] = {
    TaskSubmitted: _submitted,
    f.Accepted: _accepted,
    f.Inferred: _inferred,
    f.InferFailed: _infer_failed,
    f.ToolDone: _tool_done,
    f.ToolFailed: _tool_failed,
    f.ToolStarted: _tool_started,
    f.Parked: _parked,
    f.Approved: _approved,
    f.Rejected: _rejected,
    f.Steered: _steered,
    f.Cancelled: _cancelled,
    f.TimerFired: _timer,
    f.Done: _done,
    f.Forked: _forked,
    f.Noted: _noted,
    f.Deleted: _deleted,
    f.Completed: _completed,
    f.Refused: _refused,
    Malformed: _malformed,
}
