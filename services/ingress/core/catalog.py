"""What can stand in `model`: routes, the models of live workers, agents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from shared.contracts.agents import AgentSpec, Priority
from shared.contracts.workers import WorkerState
from shared.errors import Permanent

Json = dict[str, object]
Agents = Mapping[str, tuple[int, AgentSpec]]
AGENT_PREFIX = "agent:"
"""What stands before the name of an agent in `model`."""
EMBEDDING = "millrace:embedding"
"""Who owns a model that gives vectors, or a route to some."""


def models(
    routes: Iterable[str],
    agents: Agents,
    workers: Iterable[WorkerState],
    embeds: Callable[[str], bool] = lambda _: False,
) -> list[Json]:
    """OpenAI's model objects: routes, then models, then agents; a name stands once.

    What `embeds` is no use for a chat, and shows it.
    """
    alive = list(workers)
    found: dict[str, Json] = {}
    for route in sorted(set(routes)):
        found[route] = _model(route, EMBEDDING if embeds(route) else "millrace:route")
    for name in sorted({worker.model for worker in alive}):
        started = min(int(worker.started) for worker in alive if worker.model == name)
        owner = EMBEDDING if embeds(name) else "millrace:model"
        found.setdefault(name, _model(name, owner, started))
        length = max(worker.dimensions for worker in alive if worker.model == name)
        if length:
            found[name]["dimensions"] = length
    for name in sorted(agents):
        found[AGENT_PREFIX + name] = _model(AGENT_PREFIX + name, "millrace:agent")
    return list(found.values())


def _model(name: str, owner: str, created: int = 0) -> Json:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def find_model(name: str, known: Iterable[Json]) -> Json:
    """One of them.

    Raises:
        Permanent: `model_not_found`.
    """
    for model in known:
        if model["id"] == name:
            return model
    raise Permanent("model_not_found", f"The model {name[:80]!r} does not exist", field="model")


def find_agent(name: str, agents: Agents, field: str) -> AgentSpec:
    """An agent's definition.

    Raises:
        Permanent: `unknown_agent`, naming the field and the agents that there are.
    """
    if name not in agents:
        known = ", ".join(sorted(agents)[:20]) or "none yet"
        raise Permanent(
            "unknown_agent", f"there is no agent {name[:80]!r} (known: {known})", field=field
        )
    return agents[name][1]


def anthropic_model(model: Json) -> Json:
    """One of `models` as Anthropic shows it; the time is the epoch where there is none."""
    made = datetime.fromtimestamp(float(str(model["created"])), UTC)
    return {
        "type": "model",
        "id": model["id"],
        "display_name": model["id"],
        "created_at": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: at most `limit`, the first behind `after` or the last before `before`."""

    limit: int = 20
    after: str | None = None
    before: str | None = None


def anthropic_page(known: Iterable[Json], page: Page) -> Json:
    """A page of Anthropic's list.

    Raises:
        Permanent: `invalid_cursor` for an id that is not in the list.
    """
    found = [anthropic_model(model) for model in known]
    ids = [str(model["id"]) for model in found]
    start = 0 if page.after is None else _place(ids, page.after, "after_id") + 1
    end = len(found) if page.before is None else _place(ids, page.before, "before_id")
    part = found[start:end]
    shown = part[: page.limit] if page.before is None else part[-page.limit :]
    return {
        "data": shown,
        "has_more": len(shown) < len(part),
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def _place(ids: list[str], wanted: str, field: str) -> int:
    if wanted not in ids:
        raise Permanent("invalid_cursor", f"there is no model {wanted[:80]!r}", field=field)
    return ids.index(wanted)


Tier = Literal["auto", "default", "flex"]
"""OpenAI's service tiers, as far as there is a difference here: flex waits for everybody else."""


def priority_of(tier: Tier | None) -> Priority | None:
    """What a tier asks for; None: the agent's, or that of somebody who waits."""
    return "batch" if tier == "flex" else None


def agent_of(model: str) -> str | None:
    """The agent's name, where `model` names one."""
    return model.removeprefix(AGENT_PREFIX) if model.startswith(AGENT_PREFIX) else None
