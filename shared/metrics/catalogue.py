"""Every metric of Millrace: name, meaning, labels, and who exports it.

Names of sessions and tasks are never labels, because there is no end of them. Tenants are one where
tokens and money are counted, which is in the workers alone: 100 of them by name, then `other`. The
table in `infra/prometheus/README.md` and the checks of dashboards and alerts are made from this.
"""

from __future__ import annotations

from shared.metrics.kinds import EVERYBODY, FINE, Counter, Gauge, Histogram

SESSIONS, ROUTER, INFERENCE = "sessions", "router", "inference"
TOOLS, RETRIEVAL, LEDGER, INGRESS = "tools", "retrieval", "ledger", "ingress"
OUTCOMES = ("ok", "failed", "aborted")
TOKEN_KINDS = ("input", "cached", "output", "reasoning")

# Every process.
BUILD_INFO = Gauge(
    "build_info", "1; what runs here, in the labels", ("version", "python"), of=EVERYBODY
)
READY = Gauge("ready", "1 while the process can do its work, else 0", of=EVERYBODY)
LOOP_LAG = Histogram(
    "loop_lag_seconds",
    "How late the event loop is for a timer, looked at twice a second",
    of=EVERYBODY,
    buckets=FINE,
)
BUS_CONNECTED = Gauge("bus_connected", "1 while there is a connection to the broker", of=EVERYBODY)
ALARMS = Counter(
    "alarms_total",
    "Things that should never happen and that somebody should look at, such as a broker's refusal"
    " of what a service is not permitted to do",
    ("kind",),
    of=EVERYBODY,
    known=(("permission_violation",),),
)
DISK_FREE = Gauge(
    "disk_free_bytes",
    "Bytes that are left on the disk of a process's data folder, where it has one",
    ("folder",),
    of=EVERYBODY,
)
DISK_SIZE = Gauge("disk_size_bytes", "Bytes of that disk", ("folder",), of=EVERYBODY)

# Every process that reads a durable consumer; the others have no series of these.
MESSAGES = Counter(
    "messages_total",
    "Messages settled: done, to be tried again later, dead, or given back at the end of a process",
    ("queue", "outcome"),
    of=EVERYBODY,
)
MESSAGE_WAIT = Histogram(
    "message_wait_seconds",
    "From the moment that a message was stored until somebody began with it, first deliveries only",
    ("queue",),
    of=EVERYBODY,
)
MESSAGE_SECONDS = Histogram(
    "message_seconds",
    "From the begin with a message to its acknowledgement",
    ("queue",),
    of=EVERYBODY,
)
REDELIVERIES = Counter("redeliveries_total", "Messages that came again", ("queue",), of=EVERYBODY)
DEAD_LETTERS = Counter(
    "dead_letters_total",
    "Messages that this process gave up on, each with a letter",
    ("queue",),
    of=EVERYBODY,
)

# The processes that answer tenants' own clients of the bus.
QUESTIONS = Histogram(
    "question_seconds",
    "From a question of a tenant's own client of the bus (`ask.<tenant>.<what>`) to its answer, the"
    " wait for its turn included",
    ("what", "outcome"),
    of=(SESSIONS, RETRIEVAL),
)

# The loop.
STEP_SECONDS = Histogram(
    "step_seconds",
    "Where the time of a step goes: `route` until the router has placed it, `queue` until a worker"
    " begins, `model` and `tool` for the work itself, `overhead` for all of the step but the work",
    ("component",),
    of=(SESSIONS, ROUTER, INFERENCE, TOOLS),
)
TASKS_ACCEPTED = Counter("tasks_accepted_total", "Tasks that have begun", of=(SESSIONS,))
TASKS_ENDED = Counter(
    "tasks_ended_total",
    "Tasks that have ended",
    ("status",),
    of=(SESSIONS,),
    known=(("completed",), ("failed",), ("cancelled",)),
)
TASK_SECONDS = Histogram(
    "task_seconds",
    "From the acceptance of a task to its end, by the broker's clock",
    of=(SESSIONS,),
)
SESSIONS_ACTIVE = Gauge(
    "sessions_active",
    "Sessions with a task that has not ended, as far as this process knows",
    of=(SESSIONS,),
)
PARTITIONS_HELD = Gauge(
    "partitions_held", "Partitions of the log that this process owns; 16 in all", of=(SESSIONS,)
)

# The router, which looks at the broker for everybody.
ROUTED = Counter(
    "routed_total",
    "Model calls placed: on a worker with a free slot, or in a lane where they wait for one",
    ("model", "place"),
    of=(ROUTER,),
)
WORKERS = Gauge("workers", "Live workers by the model that they serve", ("model",), of=(ROUTER,))
WORKERS_LOST = Counter(
    "workers_lost_total", "Workers that went silent; their work was taken back", of=(ROUTER,)
)
QUEUE_WAITING = Gauge(
    "queue_waiting",
    "Messages that nobody has taken yet: the lag of a queue",
    ("stream", "queue"),
    of=(ROUTER,),
)
QUEUE_TAKEN = Gauge(
    "queue_taken", "Messages that are taken and not settled", ("stream", "queue"), of=(ROUTER,)
)
STREAM_MESSAGES = Gauge(
    "stream_messages", "Messages that a stream holds", ("stream",), of=(ROUTER,)
)
STREAM_BYTES = Gauge("stream_bytes", "Bytes that a stream holds", ("stream",), of=(ROUTER,))
STREAM_BYTES_LIMIT = Gauge(
    "stream_bytes_limit",
    "Bytes that a stream may hold, where it has a limit of its own",
    ("stream",),
    of=(ROUTER,),
)
STREAM_LAST_SEQUENCE = Gauge(
    "stream_last_sequence", "Place of the newest message of a stream", ("stream",), of=(ROUTER,)
)
STREAM_LEADER = Gauge(
    "stream_leader", "1; the server that leads a stream", ("stream", "server"), of=(ROUTER,)
)
STREAM_COPIES = Gauge(
    "stream_copies",
    "Servers that a stream is to be on, its leader included",
    ("stream",),
    of=(ROUTER,),
)
STREAM_COPIES_CURRENT = Gauge(
    "stream_copies_current",
    "Servers that have all of a stream, its leader included",
    ("stream",),
    of=(ROUTER,),
)
STREAM_COPY_LAG = Gauge(
    "stream_copy_lag",
    "Operations by which the last copy of a stream is behind its leader",
    ("stream",),
    of=(ROUTER,),
)
QUEUES_SEEN = Gauge(
    "queues_seen_timestamp_seconds",
    "When the queues were last looked at, in epoch seconds",
    of=(ROUTER,),
)

# The broker's servers, by what they say of themselves.
BROKER_UP = Gauge(
    "broker_up", "1 while a server of the broker answers, else 0", ("server",), of=(ROUTER,)
)
BROKER_HEALTHY = Gauge(
    "broker_healthy",
    "1 while a server says that it is well: it can write, and its streams are current",
    ("server",),
    of=(ROUTER,),
)
BROKER_CONNECTIONS = Gauge("broker_connections", "Clients of a server", ("server",), of=(ROUTER,))
BROKER_CONNECTIONS_LIMIT = Gauge(
    "broker_connections_limit", "Clients that a server takes at most", ("server",), of=(ROUTER,)
)
BROKER_SLOW = Counter(
    "broker_slow_consumers_total",
    "Clients that a server cut off because they did not read fast enough",
    ("server",),
    of=(ROUTER,),
)
BROKER_MEMORY = Gauge("broker_memory_bytes", "Memory of a server", ("server",), of=(ROUTER,))
BROKER_STORED = Gauge(
    "broker_stored_bytes",
    "Bytes of all streams of a server, in memory and in files",
    ("server", "storage"),
    of=(ROUTER,),
)
BROKER_STORED_LIMIT = Gauge(
    "broker_stored_limit_bytes",
    "Bytes that all streams of a server may have",
    ("server", "storage"),
    of=(ROUTER,),
)
BROKER_LEAFS = Gauge(
    "broker_leafs", "Links to other sites that a server has now", ("server",), of=(ROUTER,)
)
BROKER_LEAFS_WANTED = Gauge(
    "broker_leafs_wanted",
    "Links that a server is to open itself; those of others come beside them",
    ("server",),
    of=(ROUTER,),
)

# Workers.
MODEL_CALLS = Counter(
    "model_calls_total",
    "Model calls that came to an end: steps of tasks and stateless completions",
    ("model", "kind", "outcome"),
    of=(INFERENCE,),
)
FIRST_TOKEN = Histogram(
    "first_token_seconds",
    "From a worker's start on a model call to its first token",
    ("model",),
    of=(INFERENCE,),
)
TOKEN_GAP = Histogram(
    "token_gap_seconds",
    "Mean time between two tokens of an answer, from the second one on",
    ("model",),
    of=(INFERENCE,),
    buckets=FINE,
)
TOKENS = Counter(
    "tokens_total",
    "Tokens: `cached` is the part of `input` from a prefix cache, `reasoning` of `output`",
    ("model", "kind"),
    of=(INFERENCE,),
)
COST = Counter(
    "cost_cents_total",
    "Money by the prices of the models file, in cents of its currency",
    ("model",),
    of=(INFERENCE,),
)
TENANT_TOKENS = Counter(
    "tenant_tokens_total",
    "Input and output tokens by tenant; the ledger has the exact sums of all of them",
    ("tenant",),
    of=(INFERENCE,),
)
TENANT_COST = Counter("tenant_cost_cents_total", "Money by tenant", ("tenant",), of=(INFERENCE,))
SLOTS = Gauge("slots", "Model calls that a worker can run at a time", ("model",), of=(INFERENCE,))
SLOTS_USED = Gauge("slots_used", "Model calls that run now", ("model",), of=(INFERENCE,))
CALLS_WAITING = Gauge(
    "calls_waiting", "Model calls that wait inside a worker", ("model",), of=(INFERENCE,)
)
KV_BLOCKS = Gauge(
    "kv_blocks",
    "Blocks of the KV cache: free, cached (may be used again), or held by what runs",
    ("model", "state"),
    of=(INFERENCE,),
)
PREFIXES_BROKEN = Gauge(
    "prefixes_broken",
    "Prompts since the start that did not begin with the last one of their session",
    ("model",),
    of=(INFERENCE,),
)
ENDPOINT_OUT = Gauge(
    "endpoint_out",
    "1 while a worker keeps work from its endpoint (its breaker is open), else 0",
    ("model",),
    of=(INFERENCE,),
)

# Tools.
TOOL_CALLS = Counter("tool_calls_total", "Tool calls", ("tool", "outcome"), of=(TOOLS,))
TOOL_SECONDS = Histogram("tool_seconds", "How long tools take", ("tool",), of=(TOOLS,))

# Retrieval.
SEARCHES = Histogram(
    "search_seconds",
    "Searches in the index, the wait for fresh documents included",
    ("outcome",),
    of=(RETRIEVAL,),
    known=(("ok",), ("failed",)),
)
EMBEDDED = Counter("embedded_texts_total", "Texts turned into vectors", of=(RETRIEVAL,))
INDEXED = Counter(
    "documents_indexed_total",
    "Versions of documents that the index took in",
    ("change",),
    of=(RETRIEVAL,),
    known=(("stored",), ("deleted",)),
)

# The ledger.
LEDGER_DELAY = Histogram(
    "ledger_delay_seconds",
    "How old the oldest fact of a transaction is when it is committed",
    of=(LEDGER,),
)
LEDGER_FACTS = Counter("ledger_facts_total", "Facts written to the database", of=(LEDGER,))
LEDGER_COMMIT = Histogram("ledger_commit_seconds", "Time for a transaction", of=(LEDGER,))
LEDGER_RETRIES = Counter(
    "ledger_retries_total", "Transactions that the database could not take yet", of=(LEDGER,)
)

# HTTP.
HTTP_REQUESTS = Counter(
    "http_requests_total", "HTTP requests answered", ("method", "route", "status"), of=(INGRESS,)
)
HTTP_SECONDS = Histogram(
    "http_request_seconds",
    "From a request to the last byte of its answer, streams excluded",
    ("method", "route"),
    of=(INGRESS,),
)
HTTP_FIRST_BYTE = Histogram(
    "http_first_byte_seconds",
    "From a request to the first event of its stream",
    ("method", "route"),
    of=(INGRESS,),
)
HTTP_STREAMS = Gauge(
    "http_streams_open",
    "Open streams",
    ("kind",),
    of=(INGRESS,),
    known=(("completion",), ("task",), ("session",), ("socket",)),
)
HTTP_REFUSALS = Counter(
    "http_refusals_total",
    "Requests that were answered with an error, by its code",
    ("code",),
    of=(INGRESS,),
    known=(("rate_limited",), ("queue_full",), ("budget_exhausted",), ("too_many_failures",)),
)

ALL = tuple(one for one in globals().values() if isinstance(one, Counter | Gauge | Histogram))
"""In the order of this file."""
