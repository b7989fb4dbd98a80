"""Where clients are enlisted and what they did is written down.

Two events of ours stand beside Locust's own: `measured` for each operation that went right, with
all that was measured, and `failed` for each that did not. The books and Locust's statistics are
listeners of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count

from locust.env import Environment
from locust.event import EventHook

from loadtests.drive.bridge import Bridge
from loadtests.drive.nats import Wire
from loadtests.drive.visitor import Visitor
from loadtests.figures import Book
from loadtests.operations import OPERATIONS, Way
from loadtests.plan import Plan, Tenant
from loadtests.profiles import rotation, start_of
from loadtests.took import Took
from shared.clock import monotonic
from shared.errors import Broken, MillraceError


class Desk:
    """What all clients of a run have in common."""

    def __init__(self, plan: Plan, bridge: Bridge, wire: Wire | None) -> None:
        self.plan = plan
        self.bridge = bridge
        self.wire = wire
        self.book = Book()
        """Of the present phase."""
        self.measured = EventHook()
        self.failed = EventHook()
        self.measured.add_listener(self._write)
        self.failed.add_listener(self._write_failure)
        self._numbers = count()

    def client(self, way: Way | None = None) -> Client:
        """Another client; one of a way does that part of the mix, else all."""
        number = next(self._numbers)
        mix = self.plan.profile.mix
        own = {name: n for name, n in mix.items() if way in (None, OPERATIONS[name].way)}
        return Client(self, self.plan.tenants[number % len(self.plan.tenants)], number, own)

    def expect(self, tenant: str, task: str) -> None:
        """A task was made."""
        if self.wire is not None:
            self.wire.expect(tenant, task)

    def report_to(self, environment: Environment) -> None:
        """Tell Locust's statistics, too."""

        def told(operation: str, seconds: float, error: MillraceError | None) -> None:
            environment.events.request.fire(
                request_type=OPERATIONS[operation].way.upper(),
                name=operation,
                response_time=seconds * 1000,
                response_length=0,
                exception=error,
                context={},
            )

        def right(operation: str, tenant: str, took: Took) -> None:
            told(operation, took.seconds, None)

        def wrong(operation: str, tenant: str, seconds: float, error: MillraceError) -> None:
            told(operation, seconds, error)

        self.measured.add_listener(right)
        self.failed.add_listener(wrong)

    def _write(self, operation: str, tenant: str, took: Took) -> None:
        self.book.of(operation, tenant).took(took)

    def _write_failure(
        self, operation: str, tenant: str, seconds: float, error: MillraceError
    ) -> None:
        self.book.of(operation, tenant).failed(error)


class Client:
    """Does one operation after the other, in turns that begin at a place of its own."""

    def __init__(self, desk: Desk, tenant: Tenant, number: int, mix: dict[str, int]) -> None:
        self._desk = desk
        self.tenant = tenant.name
        self._tenant = tenant
        self._number = number
        self._round = rotation(mix)
        self._turns = count(start_of(number, len(self._round)))
        self._questions = count(number)
        self.visitor = Visitor(desk.plan, tenant, number, desk.expect)

    def next(self) -> None:
        """The next operation of the mix."""
        self.do(self._round[next(self._turns) % len(self._round)])

    def do(self, operation: str) -> None:
        """One operation, written down however it ends."""
        nats = OPERATIONS[operation].way == "nats"
        run: Callable[[], Took] = self._task if nats else lambda: self.visitor.do(operation)
        begun = monotonic()
        tenant = self.tenant
        try:
            took = run()
        except MillraceError as error:
            seconds = monotonic() - begun
            self._desk.failed.fire(operation=operation, tenant=tenant, seconds=seconds, error=error)
        else:
            self._desk.measured.fire(operation=operation, tenant=tenant, took=took)

    def leave(self) -> None:
        """The end of its stay; where the system is gone, its operations have told."""
        with suppress(MillraceError):
            self.visitor.leave()

    def _task(self) -> Took:
        if self._desk.wire is None:
            raise Broken("no_wire", "a mix without NATS has no such operation")
        asked = self._desk.plan.questions.agent
        turn = next(self._questions)
        session = f"{self._desk.plan.run}-{self._number}-n{turn}"
        work = self._desk.wire.task(self._tenant, asked[turn % len(asked)], session)
        return self._desk.bridge.call(work)
