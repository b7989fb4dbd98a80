"""A random life of a session: clients, workers, tools, timers and crashing loops around one log."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from services.sessions.core.decide import Action, Publish
from shared.contracts import facts as f
from shared.contracts.base import encode
from shared.contracts.control import CancelTask, SteerTask
from shared.contracts.log import StoredFact
from shared.contracts.tasks import InputMessage, TaskSubmitted
from tests.fakes.session_world import AGENTS, Loop, SimulatedWorld, fold

RESULTS = f.Inferred | f.InferFailed | f.ToolDone | f.ToolFailed
STRAY = 1000
"""The step that is answered though nobody asked: no task gets so far."""
BODIES = (
    b'{"input":"hi"}',
    b'{"input":"hi","limits":{"max_steps":4}}',
    b'{"input":"hi","on_busy":"interrupt"}',
    b'{"input":"hi","on_busy":"reject"}',
    b'{"input":"hi","on_busy":"steer"}',
    b'{"input":"hi","tools":[{"name":"mine"}],"demands":{"tool_choice":"required"}}',
    b'{"input":"hi","tools":[{"name":"mine"}],"on_busy":"steer","instructions":"Count."}',
    b'{"input":"hi","tools":[{"name":"add"}]}',
    b'{"input":"hi","demands":{"tool_choice":"function","function":"nothing"}}',
    b'{"input":[{"role":"assistant","content":"","tool_calls":[{"id":"c","name":"x",'
    b'"arguments":"{}"}]}]}',
    b"{nonsense",
    b"{}",
)


class Life:
    """Two loops at once, of which one may be behind: the worst that a take-over can be."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.world = SimulatedWorld()
        self.loops = [Loop(self.world), Loop(self.world)]
        self.tasks: list[str] = []
        self.decisions: list[tuple[tuple[StoredFact, ...], list[Action]]] = []

    def submit(self) -> None:
        task = self.random.choice(["", *self.tasks, *(f"task{len(self.tasks)}",) * 3])
        agent = self.random.choice(
            ["helper", "helper", "careful", "careful", "_model", "other", "nobody"]
        )
        body = self.random.choice((BODIES[0], BODIES[0], *BODIES))
        stored = self.world.log.submit(agent, body, task)
        if stored is not None:
            self.tasks.append(stored.task)

    def submit_again(self) -> None:
        """Under an id that the server has forgotten: the loop has not."""
        if self.tasks:
            self.world.log.ids.discard(task := self.random.choice(self.tasks))
            self.world.log.submit("helper", encode(TaskSubmitted(input="again")), task)

    def loop(self) -> None:
        loop = self.random.choice(self.loops)
        loop.read(self.random.choice((1, 2, 100)))
        self.note(loop)
        loop.work(self.random, self.random.choice((0.5, 1.0)))

    def note(self, loop: Loop) -> list[Action]:
        actions = loop.decided()
        assert actions == loop.decided()
        known = tuple(one for one in self.world.log.facts if one.seq <= loop.state.seq)
        self.decisions.append((known, actions))
        return actions

    def crash(self) -> None:
        self.random.choice(self.loops).crash()

    def worker(self) -> None:
        """Somebody takes a job, out of order, and answers, or is never heard of again."""
        if self.world.queue:
            work = self.world.queue.pop(self.random.choice(sorted(self.world.queue)))
            if self.random.random() < 0.9:
                self.world.answer(work, self.random)

    def late(self) -> None:
        """A job that was handed out at some time is answered (again), differently."""
        if self.world.given:
            work = self.random.choice(self.world.given)
            again = self.random.random() < 0.7
            self.world.answer(work, self.random, attempt=2, again=again)

    def echo(self) -> None:
        """A result is stored a second time."""
        facts = [one.fact for one in self.world.log.facts if isinstance(one.fact, RESULTS)]
        if facts:
            self.world.log.append(self.random.choice(facts), again=True)

    def stray(self) -> None:
        """A result of a step that nobody asked for."""
        if self.tasks:
            task = self.random.choice(self.tasks)
            stray = f.ToolDone(task=task, step=STRAY, call="c", name="add", result="?")
            self.world.log.append(stray, again=True)

    def cancel(self) -> None:
        if self.tasks:
            self.world.order(CancelTask(task=self.random.choice(self.tasks)))

    def steer(self) -> None:
        if self.tasks:
            name = f"m{self.random.randrange(20)}"
            self.world.order(SteerTask(task=self.random.choice(self.tasks), text="no", id=name))

    def person(self) -> None:
        """Somebody answers what waits, or answers it again, or what was never asked."""
        self.world.decide(self.random)
        self.world.client(self.random)
        if self.tasks and self.random.random() < 0.3:
            task, step = self.random.choice(self.tasks), self.random.randrange(8)
            some = (
                f.Approved(task=task, step=step, attempt=99),
                f.Rejected(task=task, step=step, attempt=99),
            )
            self.world.log.append(self.random.choice(some), again=True)

    def retry(self) -> None:
        """Somebody wants to go on with a task, failed or not."""
        if self.tasks:
            task = self.random.choice(self.tasks)
            body = encode(TaskSubmitted(input="", retry_of=task))
            stored = self.world.log.submit("helper", body, f"{task}-r")
            if stored is not None:
                self.tasks.append(stored.task)

    def note_down(self) -> None:
        """Somebody sets something down while nothing is under way."""
        if fold(self.world.log.facts).idle:
            name = f"note{self.random.randrange(9)}"
            said = InputMessage(role="user", content=f"by the way, {name}")
            self.world.log.append(f.Noted(note=name, messages=(said,)))

    def time(self) -> None:
        self.world.log.now += self.random.choice((1.0, 30.0, 700.0))
        self.world.fire()

    def agents(self) -> None:
        """An agent is defined, or removed, while tasks for it wait."""
        agents = dict(AGENTS)
        if self.random.random() < 0.5:
            agents["other"] = agents["helper"]
        if self.random.random() < 0.4:
            del agents["helper"]
        self.world.agents = agents

    def live(self, length: int) -> None:
        often = [self.loop] * 8 + [self.worker] * 6 + [self.submit, self.submit, self.person]
        seldom = [self.late, self.echo, self.stray, self.cancel, self.crash, self.agents]
        seldom += [self.steer, self.retry, self.note_down]
        for _ in range(length):
            self.random.choice([*often, *seldom, self.submit_again, self.time])()

    def finish(self, *, workers: bool) -> None:
        """Let it end: with workers that answer everything, or with the deadline timers alone."""
        loop = self.loops[0]
        for _ in range(60 * len(self.tasks) + 60):
            loop.read(1_000_000)
            self.note(loop)
            loop.work(self.random)
            state = fold(self.world.log.facts)
            if state.idle:
                return
            if workers and self.world.queue:
                self.world.answer(self.world.queue.popitem()[1], self.random)
            elif self.world.decide(self.random) or self.world.client(self.random):
                continue
            elif state == loop.state:  # nothing is under way any more
                self.nudge(loop, workers)
        raise AssertionError(f"hangs: {state}")

    def nudge(self, loop: Loop, workers: bool) -> None:
        """A take-over hands out again what was lost; without workers there is the time only."""
        if workers and not any(name.startswith("retry") for _, name in self.world.timers):
            loop.crash()
        else:
            assert self.world.timers, f"nothing will ever happen: {loop.state}"
            self.world.log.now = max(self.world.log.now, *self.world.timers.values())
            self.world.fire()
        assert self.note(loop)

    def results(self, known: tuple[StoredFact, ...]) -> set[tuple[str, int]]:
        """The steps that shall never be asked for again."""
        return {(one.task, one.fact.step) for one in known if is_result(one.fact)}

    def published(self, actions: list[Action]) -> Iterator[tuple[str, int]]:
        return ((a.work.task, a.work.step) for a in actions if isinstance(a, Publish))


def is_result(fact: object) -> bool:
    """The end of a step; a failure for the moment is none."""
    if isinstance(fact, f.ToolFailed):
        return not fact.retry
    return isinstance(fact, f.Inferred | f.ToolDone)


def spent(facts: list[StoredFact], task: str) -> f.Totals:
    """What the model calls of a task used until its verdict, added up without the decider."""
    found, seen, state = f.Totals(), set[int](), fold([])
    for stored in facts:
        running, fact = state.running, stored.fact
        state = fold([stored], state)
        if running is None or running.task != task or running.verdict is not None:
            continue
        if not isinstance(fact, f.Inferred) or stored.task != task or fact.step in seen:
            continue
        seen.add(fact.step)
        found = f.Totals(
            infer_steps=found.infer_steps + 1,
            usage=found.usage + fact.usage,
            price=found.price + fact.price,
        )
    return found
