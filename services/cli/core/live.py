"""The state of a live display: events of a task folded into steps and streaming text (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from services.cli.core.describe import call_text
from services.cli.core.words import clip, duration, tokens
from shared.contracts import facts as f
from shared.contracts.log import Event
from shared.contracts.tokens import TokenDelta

StepState = Literal["running", "ok", "failed", "parked", "said"]


@dataclass(frozen=True, slots=True)
class StepLine:
    """One line of the display. `key` is the call's id for a tool, else the step."""

    key: str
    label: str
    state: StepState
    detail: str = ""
    timing: str = ""
    step: int = -1
    """Of a tool call, which may be parked."""


@dataclass(frozen=True, slots=True)
class View:
    """What there is to see of a task."""

    steps: tuple[StepLine, ...] = ()
    text: str = ""
    """Of the model call that speaks now, or of the last one that spoke."""
    speaking: tuple[int, int] = (-1, 0)
    """Step and attempt that `text` belongs to."""
    done: f.Done | None = None
    finished: frozenset[int] = field(default_factory=frozenset)


def advance(view: View, event: Event) -> View:
    """The view after an event."""
    fact = event.data
    if isinstance(fact, TokenDelta):
        return _delta(view, fact)
    if isinstance(fact, f.Inferred):
        return _inferred(view, fact)
    if isinstance(fact, f.ToolFailed) and fact.retry:
        again = f"attempt {fact.attempt}: {_why(fact)}, to be tried again"
        return _at_step(view, fact.step, "running", again)
    if isinstance(fact, f.ToolDone | f.ToolFailed):
        return _tool(view, fact)
    if isinstance(fact, _VERDICTS):
        return _verdict(view, fact)
    if isinstance(fact, f.InferFailed):
        why = f"attempt {fact.attempt}: {_why(fact)}" if fact.attempt > 1 else _why(fact)
        failed = StepLine(str(fact.step), "model", "failed", why, "")
        return replace(view, steps=(*view.steps, failed), text="")
    if isinstance(fact, f.Done):
        return replace(view, done=fact, text=fact.output or view.text)
    return view


_VERDICTS = (f.Parked, f.Approved, f.Rejected, f.Steered)


def _verdict(view: View, fact: f.Parked | f.Approved | f.Rejected | f.Steered) -> View:
    """What people and the loop say to each other."""
    match fact:
        case f.Parked():
            why = f"step {fact.step} waits: {fact.reason.replace('_', ' ')} {fact.detail}"
            return _at_step(view, fact.step, "parked", clip(why, 80))
        case f.Steered():
            said = StepLine(fact.id, f"{fact.by or 'you'}: {clip(fact.text, 80)}", "said")
            return replace(view, steps=(*view.steps, said))
        case f.Approved():
            return _at_step(view, fact.step, "running", _by("approved", fact.by))
        case f.Rejected():
            return _at_step(view, fact.step, "running", _by("rejected", fact.by))


def _by(word: str, who: str) -> str:
    return f"{word} by {who}" if who else word


def _at_step(view: View, step: int, state: StepState, detail: str) -> View:
    """The call of a step in another state; a step without a line of its own gets one.

    That is the model call in front of which a task waits for its budget.
    """
    if step in view.finished:
        return view
    lines = [
        replace(one, state=state, detail=detail) if one.step == step else one for one in view.steps
    ]
    if not any(one.step == step for one in view.steps):
        if state != "parked":
            return view
        lines.append(StepLine(str(step), "model", state, detail, step=step))
    return replace(view, steps=tuple(lines))


def _delta(view: View, delta: TokenDelta) -> View:
    """A newer attempt starts the text again; a late delta of an older one is dropped."""
    place = (delta.step, delta.attempt)
    if delta.step in view.finished or place < view.speaking:
        return view
    before = view.text if place == view.speaking else ""
    return replace(view, text=before + delta.text, speaking=place)


def _inferred(view: View, fact: f.Inferred) -> View:
    if fact.step in view.finished:
        return view
    timing = "cached" if fact.cached else duration(fact.timings.total_ms)
    said = clip(fact.content, 60) if fact.tool_calls else ""
    model = StepLine(str(fact.step), fact.model, "ok", said or tokens(fact.usage), timing)
    calls = tuple(
        StepLine(call.id, call_text(call.name, call.arguments), "running", step=step)
        for step, call in enumerate(fact.tool_calls, fact.step + 1)
    )
    before = tuple(one for one in view.steps if one.step != fact.step)  # it waited, and came
    return replace(
        view,
        steps=(*before, model, *calls),
        text="" if fact.tool_calls else fact.content,
        finished=view.finished | {fact.step},
    )


def _tool(view: View, fact: f.ToolDone | f.ToolFailed) -> View:
    if fact.step in view.finished:
        return view
    ok = isinstance(fact, f.ToolDone)
    detail = clip(fact.result, 60) if isinstance(fact, f.ToolDone) else _why(fact)
    place = next(  # ids of calls may repeat from step to step: the one that still runs
        (
            number
            for number, step in enumerate(view.steps)
            if step.key == fact.call and step.state in ("running", "parked")
        ),
        len(view.steps),
    )
    held = view.steps[place : place + 1]
    line = StepLine(
        fact.call,
        held[0].label if held else fact.name,
        "ok" if ok else "failed",
        detail,
        duration(fact.duration_ms),
        fact.step,
    )
    steps = (*view.steps[:place], line, *view.steps[place + 1 :])
    return replace(view, steps=steps, finished=view.finished | {fact.step})


def _why(fact: f.InferFailed | f.ToolFailed) -> str:
    return clip(f"{fact.error.code} {fact.error.detail}", 60)
