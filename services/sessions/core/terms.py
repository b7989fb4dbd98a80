"""What a client brings along: its own tools, words, route and demands, judged and applied.

A client's tool is called by the model like any other and answered by the client: the call is
parked, and its result comes by `result`. With it the client may want something else from there on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from services.sessions.core.delegate import PREFIX
from services.sessions.core.state import Running
from shared.contracts.agents import BARE, AgentSpec
from shared.contracts.base import TOKEN
from shared.contracts.demands import Demands
from shared.contracts.facts import Approved, ToolCall
from shared.contracts.tasks import InputMessage, TaskSubmitted, Terms, terms_of
from shared.errors import Failure

Agents = Mapping[str, tuple[int, AgentSpec]]


def agent_of(agents: Agents, name: str) -> tuple[int, AgentSpec] | None:
    """An agent's revision and definition; the bare one is there without being defined."""
    return agents.get(name) or ((0, BARE) if name == BARE.name else None)


def task_refusal(agent: AgentSpec, task: TaskSubmitted) -> Failure | None:
    """Why an agent cannot take a task, if so."""
    if not isinstance(task.input, str) and (failure := unbalanced(task.input)) is not None:
        return failure
    return terms_refusal(agent, terms_of(task))


def terms_refusal(agent: AgentSpec, terms: Terms) -> Failure | None:
    """Why an agent cannot work on these terms, if so."""
    taken = {*agent.tools, *(PREFIX + name for name in agent.agents)}
    own: set[str] = set()
    for place, tool in enumerate(terms.tools):
        field = f"tools.{place}.name"
        if not TOKEN.fullmatch(tool.name):
            detail = f"{tool.name[:80]!r} is no name: 1 to 64 characters from A-Z a-z 0-9 _ -"
            return Failure(code="invalid_name", detail=detail, field=field)
        if tool.name in own or tool.name in taken:
            whose = "there already" if tool.name in own else f"a tool of agent {agent.name}"
            detail = f"the name {tool.name} is {whose}: call yours something else"
            return Failure(code="duplicate_tool", detail=detail, field=field)
        own.add(tool.name)
    return _unmet(terms.demands, own | taken)


def _unmet(demands: Demands, tools: set[str]) -> Failure | None:
    """A call that is demanded needs a tool that can be called."""
    if demands.tool_choice == "function" and demands.function not in tools:
        detail = f"there is no tool {demands.function[:80]!r} to be called"
        return Failure(code="unknown_tool", detail=detail, field="demands.function")
    if demands.tool_choice == "required" and not tools:
        detail = "a tool call is required, and there is no tool"
        return Failure(code="unknown_tool", detail=detail, field="demands.tool_choice")
    return None


def unbalanced(messages: Sequence[InputMessage]) -> Failure | None:
    """A history in which a call has no result, or a result no call, cannot be shown to a model."""
    waiting: list[str] = []
    for place, message in enumerate(messages):
        field = f"input.{place}"
        if message.tool_call_id:
            if message.role != "tool" or message.tool_call_id not in waiting:
                detail = f"{message.tool_call_id[:80]!r} is no call that waits for a result"
                return Failure(code="unknown_call", detail=detail, field=f"{field}.tool_call_id")
            waiting.remove(message.tool_call_id)
        elif waiting:
            break
        elif message.role == "tool":
            detail = "a result names its call"
            return Failure(code="unknown_call", detail=detail, field=f"{field}.tool_call_id")
        waiting += [call.id for call in message.tool_calls]
    if not waiting:
        return None
    detail = f"no result is given for the call {waiting[0][:80]!r}"
    return Failure(code="missing_result", detail=detail, field="input")


def resolved(agent: AgentSpec, terms: Terms) -> AgentSpec:
    """The agent with the route that its calls take."""
    return replace(agent, route=terms.route) if terms.route else agent


def is_clients(running: Running, call: ToolCall) -> bool:
    """Whether the client answers this call itself."""
    return any(tool.name == call.name for tool in running.accepted.terms.tools)


def demands_now(running: Running) -> Demands:
    """What the next model call is held to.

    A call that is demanded is demanded once, of the first answer to what the client has said;
    else a loop would never come to its end. How much is thought is the agent's to say where the
    client does not.
    """
    demands = running.accepted.terms.demands
    if demands.effort is None and (effort := running.accepted.agent.effort) is not None:
        demands = replace(demands, effort=effort)
    forced = demands.tool_choice in ("required", "function")
    if forced and not running.fresh:
        return replace(demands, tool_choice="auto", function="")
    return demands


def news(running: Running, terms: Terms | None) -> Terms | None:
    """The terms that come with a result, where they change anything."""
    if terms is None:
        return None
    accepted = running.accepted
    present = replace(accepted.terms, sampling=accepted.sampling)
    wanted = replace(terms, sampling=terms.sampling or accepted.agent.sampling)
    again = terms.demands.tool_choice in ("required", "function")
    return terms if again or wanted != present else None


def heard(running: Running, fact: Approved) -> Running:
    """The task after a result, on the terms that came with it."""
    terms = fact.terms
    if terms is None:
        return running
    accepted = replace(
        running.accepted,
        agent=resolved(running.accepted.agent, terms),
        sampling=terms.sampling or running.accepted.agent.sampling,
        terms=replace(terms, sampling=None),
    )
    return replace(running, accepted=accepted, fresh=True)
