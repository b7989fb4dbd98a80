"""Placement: pure policy over a snapshot of the workers.

A worker counts as alive while its last report is younger than `ALIVE`; what was placed on it
since that report is added to its load, so that a burst spreads over the workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.contracts.work import Target
from shared.contracts.workers import WorkerState
from shared.errors import MillraceError, Permanent, Transient
from shared.models import ModelsFile, micro_cents

ALIVE = 6.0


@dataclass(slots=True)
class Seen:
    """A worker's last report, when it came (monotonic seconds), and what it was given since."""

    state: WorkerState
    at: float
    placed: int = 0

    @property
    def load(self) -> int:
        """Jobs it has, as far as is known."""
        return self.state.running + self.state.waiting + self.placed

    @property
    def free(self) -> int:
        """Slots that are free, as far as is known."""
        return self.state.slots - self.load


@dataclass(slots=True)
class Workers:
    """The workers this router has heard of."""

    seen: dict[str, Seen] = field(default_factory=dict)
    alive: float = ALIVE

    def report(self, state: WorkerState, now: float) -> None:
        """A worker said how it is."""
        self.seen[state.worker] = Seen(state, now)

    def gone(self, worker: str) -> WorkerState | None:
        """A worker said goodbye; answers what it was."""
        found = self.seen.pop(worker, None)
        return found.state if found else None

    def expired(self, now: float) -> list[WorkerState]:
        """Take out and answer the workers that fell silent."""
        late = [seen.state for seen in self.seen.values() if now - seen.at > self.alive]
        for state in late:
            del self.seen[state.worker]
        return late

    def of(self, model: str, now: float) -> list[Seen]:
        """The live workers of a model, the emptiest first; names decide between equals.

        One that reports no slots is about to stop.
        """
        alive = [
            seen
            for seen in self.seen.values()
            if seen.state.model == model and seen.state.slots > 0 and now - seen.at <= self.alive
        ]
        return sorted(alive, key=lambda seen: (seen.load, seen.state.worker))

    def excuses(self, models: Sequence[str]) -> str:
        """Why workers of these models have no slots, as far as they say."""
        told = {s.state.out: None for s in self.seen.values() if s.state.model in models}
        return "".join(f"; {why}" for why in told if why)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be placed: a route of which the first `skip` models were given up.

    `served` is the worker of the session's last model call: its cache holds the beginning of the
    prompt, so it is preferred to others that are as free to serve the same model. `needs` are
    abilities, each with the field that asks for it: who says that it has not all of them gets none.
    """

    route: str
    skip: int = 0
    served: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)


def place(wanted: Wanted, models: ModelsFile, workers: Workers, now: float) -> Target:
    """The first model of the route with a free slot; else the first with a worker at all.

    The latter goes to the model's shared lanes, where whoever gets room first takes it; to one
    worker where not all of them can do what is wanted.

    Raises:
        Permanent: `unknown_route`, `route_exhausted` when all models were given up;
            `unsupported_demand` when the workers of all of them say that they cannot.
        Transient: `no_worker` while no model of the route has a live worker, or none that can and
            a model without any may have one later.
    """
    names = models.candidates(wanted.route)[wanted.skip :]
    if not names:
        detail = f"all {wanted.skip} models of {wanted.route!r} failed"
        raise Permanent("route_exhausted", detail, field="route")
    alive = {name: workers.of(name, now) for name in names}
    able = _able(alive, wanted.needs)
    for name, found in able.items():
        free = [seen for seen in found if seen.free > 0]
        if free:
            again = (seen for seen in free if seen.state.worker == wanted.served)
            chosen = next(again, free[0])
            chosen.placed += 1
            why = "served the session" if chosen.state.worker == wanted.served else "emptiest"
            return _target(name, chosen.state.worker, models, why)
    for name, found in able.items():
        if found and len(found) == len(alive[name]):
            return _target(name, "any", models, "all are full")
        if found:
            found[0].placed += 1
            return _target(name, found[0].state.worker, models, "full, but the others cannot")
    raise _nobody(wanted, alive, workers)


def _able(alive: dict[str, list[Seen]], needs: Mapping[str, str]) -> dict[str, list[Seen]]:
    if not needs:  # by far the most
        return alive
    return {name: [one for one in found if one.state.can(needs)] for name, found in alive.items()}


def _nobody(wanted: Wanted, alive: Mapping[str, Sequence[Seen]], workers: Workers) -> MillraceError:
    there = [seen.state for found in alive.values() for seen in found]
    missing = [one for one in wanted.needs if not any(state.can((one,)) for state in there)]
    ability = next(iter(missing or wanted.needs), "")
    if all(alive.values()):
        detail = f"no worker of {wanted.route!r} can do {ability}"
        return Permanent("unsupported_demand", detail, field=wanted.needs.get(ability))
    names = [name for name, found in alive.items() if not found]
    detail = f"no worker serves {', '.join(names)} at the moment"
    return Transient("no_worker", detail + workers.excuses(names), retry_after=1.0)


def place_direct(wanted: Wanted, models: ModelsFile, workers: Workers, now: float) -> Target:
    """As `place`, but always on one worker: a stateless completion waits in no queue of ours.

    Raises:
        Permanent, Transient: as `place`.
    """
    target = place(wanted, models, workers, now)
    if target.worker != "any":
        return target
    emptiest = workers.of(target.model, now)[0]
    emptiest.placed += 1
    return _target(target.model, emptiest.state.worker, models, target.why)


def _target(model: str, worker: str, models: ModelsFile, why: str) -> Target:
    prices = models.models[model].prices
    return Target(
        model=model,
        worker=worker,
        input_price=micro_cents(prices.input),
        output_price=micro_cents(prices.output),
        cached_price=None if prices.cached_input is None else micro_cents(prices.cached_input),
        why=why,
    )
