"""One filled example of every message: every field is set, and to something else than its default.

The files in `golden/` are their wire form. What an older release has written must be read for
ever, so a field that is gone or renamed needs a message of its own; where a field is added, the
file as it was goes to `golden_before/<n>/` and is never edited.
"""

from __future__ import annotations

import importlib
import pkgutil

import msgspec

import shared.contracts
from shared.contracts import (
    agents,
    asks,
    backup,
    claims,
    control,
    dead,
    demands,
    documents,
    embeddings,
    facts,
    keys,
    ledger,
    log,
    prefixes,
    replay,
    retrieval,
    schedules,
    tasks,
    tokens,
    work,
    workers,
)
from shared.contracts.base import Message, SessionRef
from shared.errors import Failure

FAILURE = Failure(
    code="no_worker", family="transient", detail="none is alive", field="route", retry_after=1.5
)
USAGE = facts.Usage(input=120, cached=64, output=17, reasoning=5)
TIMINGS = facts.Timings(queued_ms=0.25, first_token_ms=12.5, total_ms=80.75)
TRY = dead.Try(delivery=2, time=1_790_000_001.5, error=FAILURE)
TOTALS = facts.Totals(steps=3, infer_steps=2, tool_steps=1, usage=USAGE, price=4_210)
LINE = facts.UsageLine(
    agent="helper", model="nano", day="2026-01-31", calls=2, usage=USAGE, price=4_210
)
CALL = facts.ToolCall(id="call_1f", name="calculator", arguments='{"expression": "17 * 23"}')
LEG = facts.Leg(
    name="retrieval", start_ms=0.5, duration_ms=12.25, figures={"collection": "a", "passages": 3}
)
EMBEDDING = embeddings.EmbeddingInput(texts=("wheel",), tokens=((4, 17),), dimensions=256)
LIMITS = agents.Limits(
    max_steps=8, max_tokens=9000, deadline_s=30.5, max_cost=50_000, max_repeats=3, max_depth=2
)
PATCH = agents.LimitsPatch(
    max_steps=4, max_tokens=800, deadline_s=2.5, max_cost=20_000, max_repeats=2
)
RETRY = agents.RetryPolicy(tries=2, tool_tries=4, base_s=0.25, max_s=4.5)
SAMPLING = agents.Sampling(
    temperature=0.7, top_p=0.9, max_tokens=64, seed=7, stop=("END", "\n\n"),
    frequency_penalty=0.5, presence_penalty=-0.5, logit_bias={"17": -100.0},
)  # fmt: skip
TOOL = agents.ToolSpec(
    name="calculator",
    description="Exact arithmetic.",
    parameters={"type": "object", "properties": {"expression": {"type": "string"}}},
    strict=True,
)
AGENT = agents.AgentSpec(
    name="helper",
    instructions="Antworte kürzer.",
    route="fast",
    tools=("calculator", "recall"),
    limits=LIMITS,
    sampling=SAMPLING,
    collection="handbook",
    retry=RETRY,
    on_busy="steer",
    on_limit="pause",
    approve=("recall",),
    approval_s=60.5,
    agents={"expert": "Knows everything."},
    priority="batch",
    effort="high",
)
REF = SessionRef("acme", "s-1")
PARENT = tasks.Parent(session="s-0", task="t0", step=4, call="call_2a", name="ask_expert", depth=2)
PART = tasks.TextPart(text="What is this?", type="input_text")
PAST = tasks.PastCall(id="call_0c", name="weather", arguments='{"city": "Ulm"}')
INPUT = tasks.InputMessage(role="user", content=(PART,), tool_calls=(PAST,), tool_call_id="call_0b")
LOGGED = work.LoggedFact(seq=40, kind="tool_done", task="t1", body={"result": "391"})
CLAIM = claims.Claim(key="v_1f", digest="ab" * 20, size=3_000_000, parts=6)
FORMAT = demands.ResponseFormat(
    type="json_schema", name="city", schema={"type": "object"}, strict=True
)
DEMANDS = demands.Demands(
    tool_choice="function",
    function="calculator",
    parallel_tool_calls=False,
    response_format=FORMAT,
    logprobs=2,
    truncation="auto",
    effort="low",
)
TERMS = tasks.Terms(
    tools=(TOOL,),
    instructions="In euros.",
    route="deep",
    demands=DEMANDS,
    sampling=SAMPLING,
    metadata={"ticket": "7"},
    priority="batch",
)
ROUTE = work.RouteStep(
    ref=REF,
    task="t1",
    step=2,
    route="fast",
    seq=41,
    sampling=SAMPLING,
    tools=("calculator",),
    attempt=2,
    deadline=1_790_000_030.5,
    recent=work.Recent(after=38, facts=(LOGGED,)),
    skip=1,
    asked=1_790_000_000.25,
    agents=(TOOL,),
    demands=DEMANDS,
    functions=(TOOL,),
    priority="batch",
    served="w1",
)
TARGET = work.Target(
    model="nano",
    worker="w1",
    input_price=2_000_000,
    output_price=6_000_000,
    cached_price=500_000,
    why="emptiest",
)
CHAT = work.ChatMessage(
    role="assistant",
    content="Let me see.",
    tool_calls=({"id": "call_1f", "type": "function"},),
    tool_call_id="call_0",
    name="helper",
    reasoning="Cold?",
)
RESULT = tokens.DirectResult(
    content="391",
    tool_calls=(CALL,),
    finish="stop",
    usage=USAGE,
    model="nano",
    worker="w1",
    timings=TIMINGS,
)
BEST = tokens.Logprob(text="39", logprob=-0.25, bytes=(51, 57))
SCORED = tokens.Logprob(text="39", logprob=-0.25, bytes=(51, 57), top=(BEST,))
PASSAGE = retrieval.Passage(
    document="a/b.txt", text="The key is blue.", score=0.75, start=10, end=26, sequence=9,
    highlight="The key is blue.", runner_up="It is light blue.",
)  # fmt: skip
SUMMARY = ledger.TaskSummary(
    task="t1",
    session="s-1",
    agent="helper",
    status="failed",
    sequence=40,
    submitted=1_790_000_000.25,
    accepted=1_790_000_000.5,
    done=1_790_000_003.75,
    queue_ms=250.5,
    revision=3,
    steps=3,
    infer_steps=2,
    tool_steps=1,
    usage=USAGE,
    price=4_210,
    error_code="step_limit",
    input="17 * 23?",
    output="39",
)
LATENCY = ledger.Latency(count=2, mean_ms=40.5, p50_ms=30.5, p95_ms=50.5, max_ms=50.5)
ROW = ledger.UsageSummary(
    key="2026-01-31", calls=2, usage=USAGE, price=4_210, names={"day": "2026-01-31"},
    latency=LATENCY,
)  # fmt: skip
SESSION = ledger.SessionSummary(
    session="s-1", state="running", sequence=44, opened=1_790_000_000.25,
    touched=1_790_000_003.75, agent="helper", tasks=2, open_tasks=1,
)  # fmt: skip
REQUEST = ledger.RequestLine(
    id="t1", kind="task", sequence=40, time=1_790_000_000.25, status="failed", session="s-1",
    agent="helper", route="deep", model="nano", worker="w1", error_code="step_limit", usage=USAGE,
    price=4_210, latency_ms=3_500.5, first_token_ms=255.5, trace_id="0123456789abcdef" * 2,
    user="ada", key="k1", metadata={"ticket": "7"}, count=12, until=1_790_000_050.5,
    http_status=429,
)  # fmt: skip

STORED = asks.StoredMessage(
    subject="run.3.acme.s-1.inferred",
    sequence=41,
    time="2026-01-31T12:00:00.25Z",
    headers={"Millrace-Task": "t1"},
    size=17,
    text='{"task":"t1"}',
    raw=b"\xff\x00",
)
REPLAYED = replay.ReplayRow(
    seq=42, time=1_790_000_000.5, kind="inferred", task="t1", verdict="explained", step=2, by=41,
    decided=("work/t1.3",), due=("work/t1.2",),
)  # fmt: skip
_ALL: tuple[msgspec.Struct, ...] = (
    FAILURE, USAGE, TIMINGS, TOTALS, CALL, LIMITS, PATCH, RETRY, SAMPLING, TOOL, AGENT, REF,
    PARENT, PART, PAST, INPUT, TERMS, FORMAT, DEMANDS, CLAIM,
    ROUTE, TARGET, CHAT, RESULT, PASSAGE, SUMMARY, ROW,
    claims.Claimed(claim=CLAIM, document="a/b"),
    claims.ClaimedRequest(id="c1", tenant="acme", model="fast", claim=CLAIM, target=TARGET,
        needs={"constraint": "tools"}),
    msgspec.structs.replace(SAMPLING, top_k=40),
    msgspec.structs.replace(RESULT, stop_string="END", reasoning="Cold?"),
    control.CancelTask(task="t1", by="ada", reason="changed my mind"),
    control.SteerTask(task="t1", text="In euros, please.", id="m1", by="ada"),
    control.ApproveStep(
        task="t1", step=3, by="ada", note="fine", arguments="{}", result="done", limits=PATCH
    ),
    control.GiveResult(task="t1", call="call_1f", result="done", by="ada", terms=TERMS),
    control.RejectStep(task="t1", step=3, by="ada", note="too dear"),
    control.RetryTask(task="t1", retry="t1-r1", by="ada", key="k1"),
    control.ForkSession(
        session="s-2", step=4, task="t1", route="deep", input="17 * 24?", results={"3": "408"},
        by="ada", key="k1",
    ),
    control.NoteSession(
        note="n1", messages=(INPUT,), hidden=("t1/2/text",), metadata={"ticket": "7"}, by="ada"
    ),
    control.ControlReply(sequence=44, error=FAILURE),
    control.DeleteSession(force=True, by="ada"),
    control.DeleteReply(sequence=44, complete=True, error=FAILURE),
    TRY,
    dead.DeadLetter(
        subject="work.route", consumer="router", error=FAILURE, deliveries=5, body="{oh",
        stream="WORK", sequence=12, headers={"Nats-Msg-Id": "x"}, time=1_790_000_000.5,
        tries=(TRY,), original="cut",
    ),
    dead.Retried(stream="WORK", sequence=13, by="ada", time=1_790_000_060.5),
    documents.DocumentChanged(
        document="a/b.txt", text="The key is blue.", op="delete", metadata={"lang": "en"}
    ),
    facts.Accepted(
        task="t1", agent=AGENT, revision=3, limits=LIMITS, sampling=SAMPLING,
        deadline=1_790_000_030.5, source=40, terms=TERMS,
    ),
    facts.Inferred(
        task="t1", step=2, content="Let me see.", cuts=(3, 7, 11), tool_calls=(CALL,),
        finish="tool_calls", usage=USAGE, price=4_210, model="nano", worker="w1", attempt=2,
        timings=TIMINGS, cached=True, stop_string="END", reasoning="Cold?",
        thought_cuts=(3, 5), placed="emptiest",
    ),
    facts.InferFailed(task="t1", step=2, error=FAILURE, attempt=3, model="nano", worker="w1"),
    LEG,
    facts.ToolDone(
        task="t1", step=3, call="call_1f", name="calculator", result="391 €", duration_ms=1.25,
        attempt=2, spent=TOTALS, legs=(LEG,),
    ),
    facts.ToolFailed(
        task="t1", step=3, call="call_1f", name="calculator", error=FAILURE, duration_ms=1.25,
        attempt=2, spent=TOTALS, retry=True,
    ),
    facts.ToolStarted(
        task="t1", step=3, call="call_1f", name="calculator", executor="x1", attempt=2
    ),
    facts.Parked(task="t1", step=3, reason="approval", detail="calculator", attempt=2, hold=1),
    facts.Approved(
        task="t1", step=3, by="ada", note="fine", arguments="{}", result="done", limits=PATCH,
        attempt=2, hold=1, terms=TERMS,
    ),
    facts.Rejected(task="t1", step=3, by="ada", note="too dear", attempt=2, hold=1),
    facts.Steered(task="t1", id="m1", text="In euros, please.", by="ada"),
    facts.Cancelled(task="t1", by="ada", reason="changed my mind"),
    facts.TimerFired(task="t1", timer="retry", step=3, attempt=2, hold=1),
    facts.Done(
        task="t1", status="failed", output="39", error=FAILURE, totals=TOTALS, joined="t0"
    ),
    facts.Forked(
        parent="s-0", at=39, task="t1", step=4, agent="helper", route="deep", input="17 * 24?",
        results={"3": "408"}, by="ada", key="k1",
    ),
    facts.Noted(
        note="n1", messages=(INPUT,), hidden=("t1/2/text",), metadata={"ticket": "7"}, by="ada"
    ),
    LINE, facts.Deleted(upto=44, by="ada", usage=(LINE,)),
    facts.Completed(
        id="cmpl_1", model="nano", worker="w1", usage=USAGE, price=4_210, timings=TIMINGS,
        finish="length", metadata={"user": "ada"}, route="fast", error=FAILURE, key="k1",
        kind="embedding",
    ),
    facts.Refused(
        id="ref_1", code="rate_limited", status=429, route="POST /v1/tasks", count=12,
        since=1_790_000_000.5, until=1_790_000_050.5, key="k1",
    ),
    ledger.TasksQuery(
        tenant="acme", session="s-1", status="running", task="t1", limit=5, before=40,
        agent="helper", since=1_790_000_000.5, until=1_790_000_009.5, min_seq=39, patience_s=2.5,
    ),
    ledger.SessionsQuery(
        tenant="acme", agent="helper", state="idle", since=1_790_000_000.5, limit=5, before=40,
        min_seq=39, patience_s=2.5,
    ),
    SESSION, ledger.SessionsReply(sessions=(SESSION,), sequence=44, error=FAILURE, rebuilding=True),
    ledger.RequestsQuery(
        tenant="acme", id="t1", kind="task", session="s-1", agent="helper", model="nano",
        status="failed", since=1_790_000_000.5, until=1_790_000_009.5, min_ms=12.5, text="17",
        limit=5, before=41, min_seq=39, patience_s=2.5,
    ),
    REQUEST, ledger.RequestsReply(requests=(REQUEST,), sequence=44, error=FAILURE, rebuilding=True),
    ledger.LedgerQuery(min_seq=39, patience_s=2.5), ledger.RebuildLedger(forget=True),
    ledger.LedgerState(
        sequence=44, settled=43, replaying=True, replay_from=12, replay_until=40, error=FAILURE
    ),
    LATENCY,
    ledger.TasksReply(tasks=(SUMMARY,), sequence=44, error=FAILURE, rebuilding=True),
    ledger.UsageQuery(
        tenant="acme", by="model", session="s-1", since="2026-01-31", limit=5,
        keys=("agent", "model"), agent="helper", model="nano", task="t1", until="2026-02-28",
        upto=44, offset=10, min_seq=39, patience_s=2.5, key="k1", times=False,
    ),
    ledger.UsageReply(
        rows=(ROW,), total=ROW, sequence=44, error=FAILURE, more=True, rebuilding=True
    ),
    log.Malformed(error=FAILURE),
    retrieval.SearchRequest(
        tenant="acme", collection="handbook", query="which key?", limit=5, min_score=0.25,
        min_seq=9, highlight=True,
    ),
    retrieval.SearchReply(results=(PASSAGE,), watermark=9, error=FAILURE),
    retrieval.EmbedRequest(texts=("one", "two")),
    retrieval.EmbedReply(
        vectors=((0.5, -0.25),), model="all-MiniLM-L6-v2", tokens=4, error=FAILURE
    ),
    retrieval.IndexState(
        watermark=9, chunks=3, model="all-MiniLM-L6-v2", engine="milvus", error=FAILURE,
        newest=12, remaining=2,
    ),
    asks.ReadStored(subject="run.*.acme.s-1.>", after=40, limit=50),
    asks.LastStored(subject="docs.acme.handbook.a_b-1f"),
    asks.LatestStored(subjects=("run.3.acme.s-1.done.*",), upto=44),
    asks.StoredAt(sequence=41),
    asks.StoredPiece(subject="run.3.acme.s-1.inferred", sequence=41, start=524_288),
    asks.CheckPlace(session="s-1", sequence=41),
    asks.ListSessions(after="s-0", limit=50),
    asks.SearchDocuments(
        query="Which key?", collection="handbook", limit=5, min_score=0.25, min_seq=9,
        highlight=True,
    ),
    STORED,
    asks.StoredPage(messages=(STORED,), next=41, error=FAILURE),
    asks.PieceReply(data=b"\xffmill", size=5, error=FAILURE),
    asks.SessionsPage(sessions=("s-1",), next="s-1", error=FAILURE),
    asks.Answered(error=FAILURE),
    replay.ReplayQuery(after=40, limit=50, differences=True, at=42),
    REPLAYED,
    replay.ReplayReply(rows=(REPLAYED,), facts=1, next=42, state={"seq": 42}, error=FAILURE),
    schedules.Schedule(
        agent="helper", task=tasks.TaskSubmitted(input="Anything new?"), session="s-1",
        at=1_790_000_000.5, every_s=90, cron="0 8 * * MON-FRI", zone="Europe/Berlin",
        key="k1",
    ),
    tasks.TaskSubmitted(
        input=(INPUT,), limits=PATCH, sampling=SAMPLING, metadata={"ticket": "7"}, on_busy="steer",
        retry_of="t0", parent=PARENT, tools=(TOOL,), instructions="In euros.", route="deep",
        demands=DEMANDS, priority="batch", fingerprint="5e1fd0",
    ),
    tokens.TokenDelta(task="t1", step=2, index=3, text=" see", attempt=2, reasoning="Cold?"),
    SCORED,
    tokens.DirectEvent(
        text="39", done=RESULT, error=FAILURE, call=CALL, logprobs=(SCORED,), fingerprint="fp_1f",
        reasoning="Cold?",
        recorded=True, vectors=("AACAPwAAAD8=",),
    ),
    LOGGED, work.Recent(after=38, facts=(LOGGED,)),
    work.InferStep(route=ROUTE, target=TARGET, published=1_790_000_000.5),
    work.RunTool(
        ref=REF, task="t1", step=3, call="call_1f", name="calculator",
        arguments='{"expression": "17 * 23"}', collection="handbook", deadline=1_790_000_030.5,
        attempt=2, seq=41, asked=1_790_000_000.25, final=False,
    ),
    work.DirectRequest(
        id="cmpl_1", tenant="acme", model="fast", messages=(CHAT,), sampling=SAMPLING,
        tools=(TOOL,), demands=DEMANDS, count_only=True, target=TARGET, metadata={"user": "ada"},
        priority="batch", key="k1", trace_id="0123456789abcdef" * 2, whole=True,
        needs={"logprobs": "logprobs"}, embedding=EMBEDDING,
    ),
    EMBEDDING,
    keys.Allowance(
        requests_per_minute=60, tokens_per_minute=9000, concurrency=4, max_streams=9,
        budget_per_day=5_000_000, budget_per_month=90_000_000,
    ),
    keys.ApiKey(
        id="00ff00ff00ff00ff", tenant="acme", digest="1a2b", name="ci", scopes=("tasks",),
        models=("agent:*",), created=1_790_000_000.5, expires=1_790_009_000.5,
        revoked=1_790_000_900.5, former="3c4d", former_until=1_790_000_800.5,
        allowance=keys.Allowance(concurrency=2), revision=3,
    ),
    workers.WorkerState(
        worker="w1", model="nano", engine="openvino", slots=8, running=2, waiting=1, context=4096,
        started=1_790_000_000.5, blocks=2048, blocks_free=1000, blocks_cached=900,
        prefixes_broken=3, abilities=("constraint", "logprobs"),
        out="api.there refuses the key (401): look at the variable KEY", dimensions=384,
    ),
    prefixes.PrefixChange(
        worker="w1", model="nano", block_tokens=32, number=7, stored=(2**64 - 1, 5), removed=(3,),
        whole=True, more=True, complete=False,
    ),
    backup.StreamFile(
        stream="RUNS",
        file="RUNS.snapshot",
        bytes=4096,
        sha256="ab" * 32,
        messages=12,
        first=3,
        last=14,
        config={"name": "RUNS", "storage": "file"},
        state={"messages": 12, "first_seq": 3, "last_seq": 14},
    ),
    backup.Manifest(
        format=1,
        began=1767225600.5,
        ended=1767225603.25,
        streams=(
            backup.StreamFile(
                stream="DOCS",
                file="DOCS.snapshot",
                bytes=7,
                sha256="cd" * 32,
                messages=1,
                first=1,
                last=1,
                config={"name": "DOCS"},
                state={"messages": 1},
            ),
        ),
    ),
)  # fmt: skip
EXAMPLES: dict[type, msgspec.Struct] = {type(one): one for one in _ALL}


def messages() -> list[type[msgspec.Struct]]:
    """Every struct that travels."""
    found: list[type[msgspec.Struct]] = [Failure]
    for info in pkgutil.iter_modules(shared.contracts.__path__):
        module = importlib.import_module(f"shared.contracts.{info.name}")
        found += [
            kind
            for kind in vars(module).values()
            if isinstance(kind, type)
            and issubclass(kind, msgspec.Struct)
            and kind.__module__ == module.__name__
            and kind is not Message
        ]
    return found


def golden_name(kind: type) -> str:
    """`facts.Done.json` for `shared.contracts.facts.Done`."""
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}.json"
