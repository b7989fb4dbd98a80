"""A random life of a session: clients, workers, tools, timers and crashing loops around one log."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from services.sessions.core.decide import Action, Publish
from shared.contracts import facts as f
from shared.contracts.base import encode
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted
from tests.fakes.session_world import AGENTS, Loop, SimulatedWorld, fold

RESULTS = f.Inferred | f.InferFailed | f.ToolDone | f.ToolFailed
BODIES = (b'{"input":"hi"}', b'{"input":"hi","limits":{"max_steps":4}}', b"{nonsense", b"{}")


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
        agent = self.random.choice(["helper", "helper", "helper", "other", "nobody"])
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
            stray = f.ToolDone(task=task, step=50, call="c", name="add", result="?")
            self.world.log.append(stray, again=True)

    def cancel(self) -> None:
        if self.tasks:
            self.world.cancel(self.random.choice(self.tasks))

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
        often = [self.loop] * 8 + [self.worker] * 6 + [self.submit] * 2
        seldom = [self.late, self.echo, self.stray, self.cancel, self.crash, self.agents]
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
            elif state == loop.state:  # nothing is under way any more
                self.nudge(loop, workers)
        raise AssertionError(f"hangs: {state}")

    def nudge(self, loop: Loop, workers: bool) -> None:
        """A take-over hands out again what was lost; without workers there is the time only."""
        if workers:
            loop.crash()
        else:
            assert self.world.timers, f"nothing will ever happen: {loop.state}"
            self.world.log.now = max(self.world.timers.values())
            self.world.fire()
        assert self.note(loop)

    def results(self, known: tuple[StoredFact, ...]) -> set[tuple[str, int]]:
        return {(one.task, one.fact.step) for one in known if isinstance(one.fact, RESULTS)}

    def published(self, actions: list[Action]) -> Iterator[tuple[str, int]]:
        return ((a.work.task, a.work.step) for a in actions if isinstance(a, Publish))


def totals(facts: list[StoredFact], task: str) -> f.Totals:
    """What a task used until its verdict, added up without the decider."""
    found, seen, started = f.Totals(), set[int](), False
    for stored in facts:
        fact = stored.fact
        started = started or (isinstance(fact, f.Accepted) and fact.task == task)
        if stored.task != task or not started:
            continue
        if isinstance(fact, f.Cancelled | f.TimerFired | f.Done):
            return found
        if not isinstance(fact, RESULTS) or fact.step in seen or fact.step == 50:
            continue
        if isinstance(fact, f.InferFailed):
            return found
        seen.add(fact.step)
        model = isinstance(fact, f.Inferred)
        found = f.Totals(
            steps=found.steps + 1,
            infer_steps=found.infer_steps + model,
            tool_steps=found.tool_steps + (not model),
            usage=found.usage + (fact.usage if model else f.Usage()),
            price=found.price + (fact.price if model else 0),
        )
        if model and not fact.tool_calls:
            return found
    return found
