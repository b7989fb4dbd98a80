"""One short function per message: place a step, place a completion, hear of a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.router.core import ALIVE, Wanted, Workers, place, place_direct
from services.router.ports import Completion, Rescue
from shared.contracts.base import Message, as_token, check_token
from shared.contracts.facts import InferFailed
from shared.contracts.needs import needs_of
from shared.contracts.work import InferStep, RouteStep, Target
from shared.contracts.workers import WorkerState
from shared.errors import Failure
from shared.models import ModelsFile


class Router:
    """The handlers; `clock` gives epoch seconds, `ticks` monotonic ones."""

    def __init__(
        self,
        models: ModelsFile,
        rescue: Rescue,
        clock: Callable[[], float],
        ticks: Callable[[], float],
        alive: float = ALIVE,
    ) -> None:
        self._models, self._rescue = models, rescue
        self._clock, self._ticks = clock, ticks
        self.workers = Workers(alive=alive)
        self._lost: dict[str, WorkerState] = {}

    async def route(self, step: RouteStep) -> Sequence[Message]:
        """Place a model call.

        Raises:
            Permanent: `unknown_route`, `route_exhausted`, `unsupported_demand`.
            Transient: `no_worker`.
        """
        tools = (*step.agents, *step.functions)
        needs = needs_of(step.demands, step.sampling, tools)
        wanted = Wanted(step.route, step.skip, step.served, needs)
        target = place(wanted, self._models, self.workers, self._ticks())
        return [InferStep(route=step, target=target, published=self._clock())]

    def refused(self, step: RouteStep, failure: Failure) -> Sequence[Message]:
        """What the log shall say when no target was found for good."""
        return [InferFailed(task=step.task, step=step.step, error=failure, attempt=step.attempt)]

    def direct(self, asked: Completion) -> Target:
        """Place a stateless completion.

        Raises:
            Permanent: `unknown_route`, `unsupported_demand`; `invalid_name` for a tenant or id that
                fits no subject: its usage would be put down to somebody else.
            Transient: `no_worker`.
        """
        check_token(asked.tenant, "tenant")
        check_token(asked.id, "id")
        wanted = Wanted(asked.model, needs=asked.needs)
        return place_direct(wanted, self._models, self.workers, self._ticks())

    def states(self) -> list[WorkerState]:
        """What the workers that are there have said last."""
        return [seen.state for seen in self.workers.seen.values()]

    def models(self) -> tuple[str, ...]:
        """Those of the models file."""
        return tuple(self._models.models)

    def report(self, state: WorkerState) -> None:
        """A worker is alive."""
        self.workers.report(state, self._ticks())

    def goodbye(self, worker: str) -> None:
        """A worker has stopped in an orderly way; `worker` is its name as a token.

        The next sweep takes care of what it left.
        """
        name = next((one for one in self.workers.seen if as_token(one) == worker), worker)
        state = self.workers.gone(name)
        if state is not None:
            self._lost[name] = state

    async def sweep(self) -> list[WorkerState]:
        """Rescue the jobs of workers that are gone; answers those workers.

        Raises:
            Transient: the bus cannot be reached; the next sweep tries again.
        """
        self._lost |= {state.worker: state for state in self.workers.expired(self._ticks())}
        rescued: list[WorkerState] = []
        for name, state in list(self._lost.items()):
            if name not in self.workers.seen:  # else it is back, and takes up its own queue
                await self._rescue.rescue(state)
                rescued.append(state)
            self._lost.pop(name, None)
        return rescued
