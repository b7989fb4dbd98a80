"""A session's world in memory: log, work queue, timers, agents, and loops that may crash.

The log keeps the rules of RUNS: derived message ids are stored once, unique facts are refused the
second time (CAS 0), and every fact goes through the wire form. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from services.sessions.core.control import Order, fired, given, recorded
from services.sessions.core.decide import Action, Append, Publish, SetTimer, Stop, World, decide
from services.sessions.core.evolve import evolve
from services.sessions.core.state import SessionState
from shared.bus.log import fact_headers
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, Limits, LimitsPatch, RetryPolicy, ToolSpec
from shared.contracts.base import Message, SessionRef, encode, step_id
from shared.contracts.control import ApproveStep, GiveResult, RejectStep
from shared.contracts.log import MSG_ID, StoredFact, read_fact
from shared.contracts.tasks import Terms
from shared.contracts.work import RouteStep, RunTool
from shared.errors import Failure, Permanent
from shared.subjects import BY_TYPE, fact_subject, session_prefix

REF = SessionRef("acme", "s1")
START = 1_750_000_000.0
AGENT = AgentSpec(name="helper", tools=("add", "look"), limits=Limits(max_steps=9, max_tokens=90))
CAREFUL = AgentSpec(
    name="careful",
    tools=("add", "look"),
    limits=Limits(max_steps=6, max_tokens=200, max_repeats=2),
    approve=("look",),
    on_limit="pause",
    on_busy="steer",
    approval_s=5000.0,
    retry=RetryPolicy(tries=2, tool_tries=2, base_s=1.0),
)
AGENTS: Mapping[str, tuple[int, AgentSpec]] = {"helper": (3, AGENT), "careful": (1, CAREFUL)}
Work = RouteStep | RunTool


MINE = ToolSpec(name="mine", description="A tool of the client's own.")
TOO_LONG = Failure(code="context_too_long", detail="too long")
BUSY = Failure(code="engine_failed", family="transient")
BROKEN = Failure(code="tries_exhausted", family="broken")


def fold(facts: Iterable[StoredFact], state: SessionState | None = None) -> SessionState:
    """The state after facts."""
    state = state or SessionState(ref=REF)
    for stored in facts:
        state = evolve(state, stored)
    return state


@dataclass
class MemoryLog:
    """RUNS, one session of it. Other sessions take some sequences, so there are gaps."""

    facts: list[StoredFact] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    seq: int = 0
    now: float = START

    def put(self, subject: str, body: bytes, headers: dict[str, str]) -> StoredFact:
        self.seq += 1 + self.seq % 3 // 2
        stored = read_fact(subject, body, self.seq, self.now, headers)
        assert stored is not None
        self.facts.append(stored)
        self.subjects.add(subject)
        self.ids.add(headers.get(MSG_ID, ""))
        return stored

    def submit(self, agent: str, body: bytes, task: str = "") -> StoredFact | None:
        """A client's task, as the server rewrites it; None where its id is known already."""
        if task and task in self.ids:
            return None
        headers = {MSG_ID: task} if task else {}
        return self.put(f"{session_prefix(REF)}.task.{agent}", body, headers)

    def append(self, fact: Message, trace_id: str = "", *, again: bool = False) -> bool:
        """Append as `RunLog` does; `again`: so late that the server forgot the message id."""
        subject, headers = fact_subject(REF, fact), fact_headers(REF, fact, trace_id)
        if BY_TYPE[type(fact)].guarded and subject in self.subjects:
            return False
        if headers[MSG_ID] in self.ids and not again:
            return False
        self.put(subject, encode(fact), headers)
        return True


@dataclass
class Loop:
    """One process that runs the session: its view of the log and what it has performed."""

    world: SimulatedWorld
    state: SessionState = field(default_factory=lambda: SessionState(ref=REF))
    performed: set[str] = field(default_factory=set)

    def crash(self) -> None:
        """Forget everything; the next one begins with the whole log, as a cold session does."""
        self.state, self.performed = fold(self.world.log.facts), set()

    def read(self, most: int) -> None:
        new = [fact for fact in self.world.log.facts if fact.seq > self.state.seq]
        self.state = fold(new[:most], self.state)

    def decided(self) -> list[Action]:
        world = World(now=self.world.log.now, agents=self.world.agents)
        return decide(self.state, world)

    def work(self, random: Random, share: float = 1.0) -> None:
        """Perform some of what is decided, in any order."""
        todo = [action for action in self.decided() if action.id not in self.performed]
        random.shuffle(todo)
        for action in todo:
            if random.random() < share:
                self.world.perform(action)
                self.performed.add(action.id)


@dataclass
class SimulatedWorld:
    """Everything that a session's loops share."""

    log: MemoryLog = field(default_factory=MemoryLog)
    agents: Mapping[str, tuple[int, AgentSpec]] = field(default_factory=lambda: dict(AGENTS))
    queue: dict[str, Work] = field(default_factory=dict)
    given: list[Work] = field(default_factory=list)
    timers: dict[tuple[str, str], float] = field(default_factory=dict)

    def perform(self, action: Action) -> None:
        match action:
            case Append():
                self.log.append(action.fact, action.trace_id)
            case Publish():
                step = step_id(action.work.task, action.work.step)
                self.queue[f"{step}/{action.work.attempt}"] = action.work
                self.given.append(action.work)
            case SetTimer():
                self.timers[action.task, action.name] = action.at
            case Stop():
                for task, name in [key for key in self.timers if key[0] == action.task]:
                    del self.timers[task, name]

    def fire(self) -> None:
        """Fire the timers that are due, as `Sessions.fired` does."""
        for task, name in [key for key, at in self.timers.items() if at <= self.log.now]:
            del self.timers[task, name]
            fact = fired(fold(self.log.facts), task, name, self.log.now)
            if fact is not None:
                self.log.append(fact)

    def order(self, order: Order) -> bool:
        """As `Sessions.order` does; false where it is refused."""
        try:
            fact = recorded(fold(self.log.facts), order)
        except Permanent:
            return False
        return self.log.append(fact)

    def client(self, random: Random) -> bool:
        """A client answers a call of its own tool, now and then on other terms from there on."""
        running = fold(self.log.facts).running
        calls = [] if running is None else [one for one in running.pending if one.call is not None]
        waiting = [one.call.id for one in calls if one.parked == "client_tool" and one.call]
        if running is None or not waiting:
            return False
        terms = random.choice((None, Terms(tools=(MINE,)), Terms(instructions="Be short.")))
        order = GiveResult(
            task=running.task, call=random.choice(waiting), result="mine says", terms=terms
        )
        fact = given(fold(self.log.facts), order)
        return fact is not None and self.log.append(fact)

    def decide(self, random: Random) -> bool:
        """A person looks at what waits and answers the first question, some way or other."""
        running = fold(self.log.facts).running
        if running is None:
            return False
        steps = [one.step for one in running.pending if one.parked is not None]
        if running.hold is not None and running.hold.parked_at is not None:
            limits = LimitsPatch(max_steps=running.limits.max_steps + 3, max_tokens=10_000)
            steps = [running.next_step]
            yes = ApproveStep(task=running.task, step=steps[0], limits=limits)
        elif steps:
            given = random.choice(({}, {"arguments": '{"n": 1}'}, {"result": "by hand"}))
            yes = ApproveStep(task=running.task, step=steps[0], **given)
        else:
            return False
        no = RejectStep(task=running.task, step=steps[0], note="no")
        return self.order(no if running.holds > 2 else random.choice((yes, yes, no)))

    def answer(self, work: Work, random: Random, attempt: int = 0, *, again: bool = False) -> None:
        """What a worker or a tool says."""
        if isinstance(work, RouteStep):
            self.log.append(said(work, random, attempt or work.attempt), again=again)
        else:
            self.log.append(ran(work, random), again=again)


def said(work: RouteStep, random: Random, attempt: int = 1) -> f.Inferred | f.InferFailed:
    """A model's answer: mostly with tool calls, now and then none at all."""
    if random.random() < 0.15:
        if work.skip > 1:
            error = Failure(code="route_exhausted")
        else:
            error = random.choice((TOO_LONG, BUSY, BUSY, BROKEN))
        return f.InferFailed(task=work.task, step=work.step, error=error, attempt=attempt)
    names = ("add", "look", "forbidden", *(tool.name for tool in work.functions))
    calls = tuple(
        f.ToolCall(id=f"c{work.task}-{work.step}-{n}", name=random.choice(names), arguments="{}")
        for n in range(random.choice((0, 0, 1, 1, 2, 3)))
    )
    return f.Inferred(
        task=work.task,
        step=work.step,
        content=f"thought {work.step} of {work.task}",
        tool_calls=calls,
        finish="tool_calls" if calls else "stop",
        usage=f.Usage(input=random.randrange(60), output=random.randrange(30)),
        price=random.randrange(1000),
        model="m",
        worker="w",
        attempt=attempt,
    )


def ran(work: RunTool, random: Random) -> f.ToolDone | f.ToolFailed | f.Parked:
    """A tool's answer."""
    where = {"task": work.task, "step": work.step, "call": work.call, "name": work.name}
    where |= {"attempt": work.attempt}
    dice = random.random()
    if dice < 0.15:
        return f.ToolFailed(**where, error=Failure(code="tool_failed", detail="no luck"))
    if dice < 0.3:
        return f.ToolFailed(**where, error=BUSY, retry=not work.final)
    if dice < 0.36:
        return f.Parked(
            task=work.task, step=work.step, reason="unknown_outcome", attempt=work.attempt
        )
    return f.ToolDone(**where, result=f"result of {work.call}")
