"""The state of a live display: events of a task folded into steps and streaming text (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from services.cli.core.describe import call_text
from services.cli.core.words import clip, duration, tokens
from shared.contracts import facts as f
from shared.contracts.log import Event
from shared.contracts.tokens import TokenDelta

StepState = Literal["running", "ok", "failed"]


@dataclass(frozen=True, slots=True)
class StepLine:
    """One line of the display. `key` is the call's id for a tool, else the step."""

    key: str
    label: str
    state: StepState
    detail: str = ""
    timing: str = ""


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
    if isinstance(fact, f.ToolDone | f.ToolFailed):
        return _tool(view, fact)
    if isinstance(fact, f.InferFailed):
        failed = StepLine(str(fact.step), "model", "failed", _why(fact), "")
        return replace(view, steps=(*view.steps, failed), text="")
    if isinstance(fact, f.Done):
        return replace(view, done=fact, text=fact.output or view.text)
    return view


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
        StepLine(call.id, call_text(call.name, call.arguments), "running")
        for call in fact.tool_calls
    )
    return replace(
        view,
        steps=(*view.steps, model, *calls),
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
            if (step.key, step.state) == (fact.call, "running")
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
    )
    steps = (*view.steps[:place], line, *view.steps[place + 1 :])
    return replace(view, steps=steps, finished=view.finished | {fact.step})


def _why(fact: f.InferFailed | f.ToolFailed) -> str:
    return clip(f"{fact.error.code} {fact.error.detail}", 60)
