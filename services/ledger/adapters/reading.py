"""The questions over the in-memory twin's rows, written apart from the SQL."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import orjson

from services.ledger.core import KEYS, TOKENS, Key, Value
from shared.contracts.facts import Usage
from shared.contracts.ledger import (
    Latency,
    RequestLine,
    RequestsQuery,
    SessionsQuery,
    SessionSummary,
    TasksQuery,
    TaskState,
    TaskSummary,
    UsageQuery,
    UsageSummary,
)

Row = dict[str, Value]
Tables = dict[str, dict[Key, Row]]


def tasks(tables: Tables, query: TasksQuery) -> tuple[TaskSummary, ...]:
    """Newest first."""
    found = (
        _summary(tables, key, row)
        for key, row in tables["tasks"].items()
        if "submitted_seq" in row and key[0] == query.tenant
    )
    wanted = [task for task in found if _matches(task, query)]
    return tuple(sorted(wanted, key=lambda task: -task.sequence)[: query.limit])


def _matches(task: TaskSummary, query: TasksQuery) -> bool:
    return (
        query.session in (None, task.session)
        and query.task in (None, task.task)
        and query.agent in (None, task.agent)
        and query.status in (None, task.status)
        and _within(task.submitted, query.since, query.until)
        and (not query.before or task.sequence < query.before)
    )


def _within(time: float, since: float, until: float) -> bool:
    return time >= since and (not until or time < until)


def _summary(tables: Tables, key: Key, row: Row) -> TaskSummary:
    source = row if "done_seq" in row else _so_far(tables, key)
    accepted, submitted = float(row.get("accepted", 0.0)), float(row["submitted"])
    return TaskSummary(
        task=str(key[2]),
        session=str(key[1]),
        agent=str(row["agent"]),
        status=_state(tables, key, row),
        sequence=int(row["submitted_seq"]),
        submitted=submitted,
        accepted=accepted,
        done=float(row.get("done", 0.0)),
        queue_ms=max(0.0, (accepted - submitted) * 1000) if accepted else 0.0,
        revision=int(row.get("revision", 0)),
        steps=int(source["steps"]),
        infer_steps=int(source["infer_steps"]),
        tool_steps=int(source["tool_steps"]),
        usage=_usage(source),
        price=int(source["price"]),
        error_code=str(row.get("error_code", "")),
        input=str(row["input"]),
        output=str(row.get("output", "")),
    )


def _state(tables: Tables, key: Key, row: Row) -> TaskState:
    if "done_seq" in row:
        return str(row["status"])  # type: ignore[return-value]  # a Status, as the fact has it
    if "accepted_seq" not in row:
        return "queued"
    waits = ((at, one) for at, one in tables["waits"].items() if at[:3] == key)
    return "parked" if any(_open(tables, at, one) for at, one in waits) else "running"


def _open(tables: Tables, key: Key, wait: Row) -> bool:
    answered = int(wait.get("answered_seq", 0))
    result = "result_seq" in tables["steps"].get(key, {})
    return int(wait.get("parked_seq", 0)) > answered and not result


def _results(tables: Tables, task: Key) -> list[Row]:
    """The results of a task's steps, in order."""
    steps = sorted(place for place in tables["steps"] if place[:3] == task)
    return [row for place in steps if "result_seq" in (row := tables["steps"][place])]


def _so_far(tables: Tables, key: Key) -> Row:
    rows = _results(tables, key)
    sums: Row = {name: sum(int(row[name]) for row in rows) for name in TOKENS}
    infer = sum(row["kind"] == "infer" for row in rows)
    return sums | {"steps": len(rows), "infer_steps": infer, "tool_steps": len(rows) - infer}


def sessions(tables: Tables, query: SessionsQuery) -> tuple[SessionSummary, ...]:
    """The one that was touched last first."""
    found: list[SessionSummary] = []
    for key, row in tables["sessions"].items():
        mine = [task for at, task in tables["tasks"].items() if at[:2] == key]
        own = sorted(
            (task for task in mine if "submitted_seq" in task),
            key=lambda task: int(task["submitted_seq"]),
        )
        unfinished = sum("done_seq" not in task for task in own)
        one = SessionSummary(
            session=str(key[1]),
            state="running" if unfinished else "idle",
            sequence=int(row["touched_seq"]),
            opened=float(row["opened"]),
            touched=float(row["touched"]),
            agent=str(own[-1]["agent"]) if own else "",
            tasks=len(own),
            open_tasks=unfinished,
        )
        agents = {task["agent"] for task in own}
        if (
            key[0] == query.tenant
            and (query.agent is None or query.agent in agents)
            and query.state in (None, one.state)
            and one.touched >= query.since
            and (not query.before or one.sequence < query.before)
        ):
            found.append(one)
    return tuple(sorted(found, key=lambda one: -one.sequence)[: query.limit])


def requests(tables: Tables, query: RequestsQuery) -> tuple[RequestLine, ...]:
    """Newest first."""
    found = [
        line
        for line, words, models in _lines(tables, query.tenant)
        if _asked(line, query)
        and (query.model is None or query.model in models)
        and query.text.casefold() in words.casefold()
    ]
    return tuple(sorted(found, key=lambda line: -line.sequence)[: query.limit])


def _asked(line: RequestLine, query: RequestsQuery) -> bool:
    return (
        query.id in (None, line.id)
        and query.kind in (None, line.kind)
        and query.session in (None, line.session)
        and query.agent in (None, line.agent)
        and query.status in (None, line.status)
        and _within(line.time, query.since, query.until)
        and (not query.min_ms or line.latency_ms >= query.min_ms)
        and (not query.before or line.sequence < query.before)
    )


def _lines(tables: Tables, tenant: str) -> Iterator[tuple[RequestLine, str, set[str]]]:
    """Every request with its words and the models that answered it."""
    for key, row in tables["tasks"].items():
        if key[0] == tenant and "submitted_seq" in row:
            words = f"{row['input']}\n{row.get('output', '')}"
            calls = [one for one in _results(tables, key) if one["kind"] == "infer"]
            yield _task(tables, key, row, calls), words, {str(one["name"]) for one in calls}
    for key, row in tables["completions"].items():
        if key[0] == tenant:
            line = _completion(key, row)
            yield line, "", {line.model}
    for key, row in tables["refusals"].items():
        if key[0] == tenant:
            yield _refusal(key, row), "", set()


def _task(tables: Tables, key: Key, row: Row, calls: list[Row]) -> RequestLine:
    begun, done = float(row["submitted"]), float(row.get("done", 0.0))
    first = begun
    if calls:
        first = float(calls[0]["started"]) + float(calls[0]["first_token_ms"]) / 1000
    return RequestLine(
        id=str(key[2]),
        kind="task",
        sequence=int(row["submitted_seq"]),
        time=begun,
        status=_state(tables, key, row),
        session=str(key[1]),
        agent=str(row["agent"]),
        model=str(calls[-1]["name"]) if calls else "",
        worker=str(calls[-1]["worker"]) if calls else "",
        error_code=str(row.get("error_code", "")),
        usage=sum((_usage(one) for one in calls), Usage()),
        price=sum(int(one["price"]) for one in calls),
        latency_ms=max(0.0, (done - begun) * 1000) if done else 0.0,
        first_token_ms=max(0.0, (first - begun) * 1000),
        trace_id=str(row["trace_id"]),
        user=str(row["end_user"]),
        key=str(row["key_id"]),
        metadata=orjson.loads(str(row["metadata"])),
    )


def _completion(key: Key, row: Row) -> RequestLine:
    computed = "result_seq" in row
    good = computed and row["result_seq"] != row.get("failed_seq")
    return RequestLine(
        id=str(key[1]),
        kind=str(row["kind"]),  # type: ignore[arg-type]  # one of them, as the fact has it
        sequence=int(row["asked_seq"]),
        time=float(row["finished" if good else "failed"]),
        status="completed" if good else "failed",
        route=str(row["route"]),
        model=str(row["model" if good else "failed_model"]),
        worker=str(row["worker" if good else "failed_worker"]),
        error_code="" if good else str(row["error_code"]),
        usage=_usage(row) if computed else Usage(),
        price=int(row["price"]) if computed else 0,
        latency_ms=float(row.get("total_ms", 0.0)),
        first_token_ms=float(row.get("first_token_ms", 0.0)),
        trace_id=str(row["trace_id"]),
        user=str(row["end_user"]),
        key=str(row["key_id"]),
        metadata=orjson.loads(str(row["metadata"])),
    )


def _refusal(key: Key, row: Row) -> RequestLine:
    return RequestLine(
        id=str(key[1]),
        kind="refused",
        sequence=int(row["refused_seq"]),
        time=float(row["begun"]),
        status="failed",
        route=str(row["route"]),
        error_code=str(row["code"]),
        trace_id=str(row["trace_id"]),
        key=str(row["key_id"]),
        count=int(row["times"]),
        until=float(row["ended"]),
        http_status=int(row["http_status"]),
    )


def usage(tables: Tables, query: UsageQuery) -> tuple[UsageSummary, ...]:
    """Groups over first results and stateless completions."""
    grouping = query.grouping
    groups: dict[tuple[str, ...], list[Row]] = {}
    for call in _calls(tables):
        if _counts(call, query):
            groups.setdefault(tuple(str(call[key]) for key in grouping), []).append(call)
    found = [
        _group(dict(zip(grouping, key, strict=True)), rows, times=query.times)
        for key, rows in groups.items()
    ]
    found.sort(key=lambda one: (-one.usage.input - one.usage.output, *one.names.values()))
    if "day" in grouping:
        found.sort(key=lambda one: one.names["day"], reverse=True)
    page = found[query.offset : query.offset + query.limit]
    return tuple(page[::-1] if grouping == ("day",) else page)


def _group(names: dict[str, str], rows: list[Row], *, times: bool) -> UsageSummary:
    known = sorted(float(row["total_ms"]) for row in rows if "total_ms" in row)
    return UsageSummary(
        key="/".join(names.values()),
        calls=sum(int(row.get("calls", 1)) for row in rows),
        usage=sum((_usage(row) for row in rows), Usage()),
        price=sum(int(row["price"]) for row in rows),
        names=names,
        latency=_latency(known) if times and known else Latency(),
    )


def _latency(times: list[float]) -> Latency:
    def percentile(percent: int) -> float:
        return times[math.ceil(len(times) * percent / 100) - 1]

    return Latency(
        count=len(times),
        mean_ms=sum(times) / len(times),
        p50_ms=percentile(50),
        p95_ms=percentile(95),
        max_ms=times[-1],
    )


def _counts(call: Row, query: UsageQuery) -> bool:
    return (
        call["tenant"] == query.tenant
        and all(
            getattr(query, name) in (None, call[name])
            for name in ("session", "agent", "model", "task", "key")
        )
        and str(call["day"]) >= query.since
        and (not query.until or str(call["day"]) <= query.until)
        and (not query.upto or int(call["result_seq"]) <= query.upto)
    )


def _calls(tables: Tables) -> Iterable[Row]:
    for key, row in tables["steps"].items():
        if row.get("kind") == "infer":
            names = dict(zip(KEYS["tasks"], key[:3], strict=True))
            task = tables["tasks"].get(key[:3], {})
            whose = {"agent": task.get("agent", ""), "key": task.get("key_id", "")}
            yield row | names | whose | {"model": row["name"]}
    for key, row in tables["completions"].items():
        if "result_seq" in row:
            names = {"tenant": str(key[0]), "session": "", "task": str(key[1]), "agent": ""}
            yield row | names | {"key": row["key_id"]}
    for key, row in tables["erased"].items():
        yield row | dict(zip(KEYS["erased"], key, strict=True)) | {"task": "", "key": ""}


def _usage(row: Row) -> Usage:
    return Usage(
        input=int(row["input_tokens"]),
        cached=int(row["cached_tokens"]),
        output=int(row["output_tokens"]),
    )
