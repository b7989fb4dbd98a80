"""Tasks as HTTP shows them: ids from idempotency keys, state folded from facts, events as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from shared.contracts import facts as f
from shared.contracts.agents import LimitsPatch, OnBusy, Sampling
from shared.contracts.base import SessionRef, as_token
from shared.contracts.log import Event, Malformed, StoredFact
from shared.contracts.tasks import NO_TERMS, InputMessage, TaskSubmitted, Terms
from shared.errors import Permanent
from shared.waiting import notes, waiting

Json = dict[str, object]
_DEFAULT_TENANT = "default"
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Order:
    """A task to submit."""

    ref: SessionRef
    task: str
    agent: str
    input: str | tuple[InputMessage, ...]
    limits: LimitsPatch | None = None
    sampling: Sampling | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    on_busy: OnBusy | None = None
    terms: Terms = NO_TERMS
    key: str = ""
    """The id of the API key that it came with."""
    fingerprint: str = ""
    """Of the request whose idempotency key names the task."""


def task_of_key(tenant: str, key: str) -> str:
    """The task id of an idempotency key, as its caller has it (`Caller.own`).

    The key of any other tenant than the default one is hashed together with its name: no two
    tenants have tasks of one name by choosing the same key.
    """
    return as_token(key if tenant == _DEFAULT_TENANT else f"{tenant}/{key}")


def session_of_task(task: str) -> str:
    """The session of a task that named none: derived, so that a repetition finds it again."""
    return as_token(f"s-{task}")


def full(value: object) -> object:
    """A message as plain JSON values with its defaults filled in (the wire leaves them out)."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, msgspec.Struct):
        return {name: full(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(key): full(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [full(item) for item in value]
    return msgspec.to_builtins(value)


def event_data(event: Event) -> Json:
    """The JSON of an event: its task, the time of a fact, then the fact's or delta's own fields.

    A delta has no time: it is cut again from its fact when it is read later, and then has to be
    the same as it was live.
    """
    body = full(event.data)
    own = body if isinstance(body, dict) else {}
    if event.kind == "delta" and not own.get("reasoning"):
        own.pop("reasoning", None)  # of by far the most, and each of them is sent
    time = {} if event.kind == "delta" else {"time": event.time}
    return {"task": event.task, **time, **own}


def fact_data(stored: StoredFact) -> Json:
    """The JSON of a fact in a session's history."""
    return {
        "seq": stored.seq,
        "kind": stored.kind,
        "time": stored.time,
        "task": stored.task,
        "fact": full(stored.fact),
    }


def task_state(ref: SessionRef, task: str, history: Iterable[StoredFact]) -> Json:
    """The state of a task, folded from the facts of its session.

    Raises:
        Permanent: `unknown_task` where the session holds nothing of it.
    """
    view: Json = {
        "task": task,
        "session": ref.session,
        "agent": None,
        "state": "queued",
        "input": None,
        "output": None,
        "error": None,
        "created": None,
        "started": None,
        "finished": None,
        "totals": full(f.Totals()),
        "trace_id": "",
    }
    steps: dict[int, Json] = {}
    own = [stored for stored in history if stored.task == task]
    for stored in own:
        _fold(view, steps, stored)
    if not own:
        raise Permanent("unknown_task", f"there is no task {task[:80]!r}")
    if view["state"] in ("queued", "running"):
        view["totals"] = full(_totals(steps.values()))
    view["waits_for"] = [_wait(stored) for stored in waiting(own)]
    if view["waits_for"] and view["state"] == "running":
        view["state"] = "parked"
    view["notes"] = [full(note) for note in notes(own)]
    view["steps"] = [_without_mark(steps[number]) for number in sorted(steps)]
    return view


def _wait(parked: StoredFact) -> Json:
    """A step that waits for a person."""
    fact = full(parked.fact)
    given = fact if isinstance(fact, dict) else {}
    wanted = ("step", "reason", "detail", "attempt")
    return {"since": parked.time, **{name: given.get(name) for name in wanted}}


def _fold(view: Json, steps: dict[int, Json], stored: StoredFact) -> None:
    match stored.fact:
        case TaskSubmitted(input=given):
            view |= {"agent": stored.rest or None, "input": full(given), "created": stored.time}
            view["trace_id"] = stored.trace_id
        case f.Accepted() as accepted:
            view |= {"agent": accepted.agent.name, "state": "running", "started": stored.time}
            view["trace_id"] = view["trace_id"] or stored.trace_id
        case f.Done() as done:
            view |= {"state": done.status, "finished": stored.time, "totals": full(done.totals)}
            view["output"] = done.output if done.status == "completed" else done.output or None
            view["error"] = full(done.error)
        case Malformed(error=error):
            view["error"] = full(error)
        case f.Inferred() | f.InferFailed() | f.ToolDone() | f.ToolFailed() as fact:
            _fold_step(steps, fact, stored.time)


def _fold_step(
    steps: dict[int, Json],
    fact: f.Inferred | f.InferFailed | f.ToolDone | f.ToolFailed,
    time: float,
) -> None:
    """The first result of a step wins; a failed attempt only stands until there is a result."""
    known = steps.get(fact.step)
    if known is not None and known["final"]:
        return
    again = isinstance(fact, f.InferFailed) or (isinstance(fact, f.ToolFailed) and fact.retry)
    base: Json = {"step": fact.step, "time": time, "attempt": fact.attempt, "final": not again}
    tries = [] if known is None else [*known["tries"], _try(known)]  # type: ignore[misc]  # ours
    base["tries"] = tries
    match fact:
        case f.Inferred():
            base |= {
                "kind": "infer",
                "state": "done",
                "content": fact.content,
                "reasoning": fact.reasoning,
                "tool_calls": full(fact.tool_calls),
                "finish": fact.finish,
                "usage": full(fact.usage),
                "price": fact.price,
                "model": fact.model,
                "worker": fact.worker,
                "timings": full(fact.timings),
                "cached": fact.cached,
            }
        case f.ToolDone():
            base |= {"kind": "tool", "state": "done", "call": fact.call, "name": fact.name}
            base |= {"result": fact.result, "duration_ms": fact.duration_ms}
        case f.ToolFailed():
            base |= {"kind": "tool", "state": "failed", "call": fact.call, "name": fact.name}
            base |= {"error": full(fact.error), "duration_ms": fact.duration_ms}
        case f.InferFailed():
            base |= {"kind": "infer", "state": "failed", "error": full(fact.error)}
    steps[fact.step] = base


def _without_mark(step: Json) -> Json:
    return {name: value for name, value in step.items() if name != "final"}


def _try(known: Json) -> Json:
    """An attempt that failed and is followed by another one."""
    return {name: known[name] for name in ("attempt", "error", "time")}


def _totals(steps: Iterable[Json]) -> f.Totals:
    """What an unfinished task has used so far."""
    usage, price, infer, tools = f.Usage(), 0, 0, 0
    for step in steps:
        if step["kind"] == "tool":
            tools += bool(step["final"])
        elif step["state"] == "done":
            infer += 1
            usage += msgspec.convert(step["usage"], f.Usage)
            price += msgspec.convert(step["price"], int)
    return f.Totals(
        steps=infer + tools, infer_steps=infer, tool_steps=tools, usage=usage, price=price
    )


def session_state(ref: SessionRef, history: Sequence[StoredFact]) -> Json:
    """A session and its tasks, in the order in which they were submitted.

    Raises:
        Permanent: `unknown_session`.
    """
    history = [stored for stored in history if stored.kind != "deleted"]
    if not history:
        raise Permanent("unknown_session", f"there is no session {ref.session!r}")
    ids = list(dict.fromkeys(stored.task for stored in history if stored.task))
    tasks = [task_state(ref, task, history) for task in ids]
    wanted = ("task", "agent", "state", "created", "finished")
    open_tasks = [view for view in tasks if view["state"] in ("queued", "running", "parked")]
    return {
        "session": ref.session,
        "state": "running" if open_tasks else "idle",
        "created": history[0].time,
        "updated": history[-1].time,
        "seq": history[-1].seq,
        "tasks": [{name: view[name] for name in wanted} for view in tasks],
    }
