"""What runs and in which order: programs, their environment, restart delays. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.contracts.base import as_token
from shared.errors import Permanent
from shared.models import AnyModel, ProviderModel

NATS = "nats"
EDGE = ("ingress",)
SERVICES = ("sessions", "router", "inference", "tools", "retrieval", "ledger", *EDGE)
TRACING = "tracing"
STABLE_AFTER = 20.0
"""A program that ran this long (seconds) was healthy: its next restart is quick again."""
MOST_REPLICAS = 16
_FIRST_DELAY, _LAST_DELAY = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class Program:
    """A program to keep running. Programs stop in rising order of `stage`."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stage: int = 1


def restart_delay(failures: int) -> float:
    """Seconds to wait before the restart after the n-th failure in a row (1 is the first)."""
    return min(_FIRST_DELAY * 2.0 ** min(max(failures, 1) - 1, 16), _LAST_DELAY)


def failures_after(previous: int, ran: float) -> int:
    """The count of failures in a row after a program ended that had run for `ran` seconds."""
    return 1 if ran >= STABLE_AFTER else previous + 1


def service_environment(
    inherited: Mapping[str, str], ours: Mapping[str, str], root: Path
) -> dict[str, str]:
    """The environment of a service: what we inherited, our own values on top.

    Output is unbuffered because a log must be complete when its writer is killed.
    """
    return {**inherited, **ours, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}


def read_replicas(text: str) -> dict[str, int]:
    """How many processes of a service shall run, from `sessions=2,tools=2`; the rest: one.

    Raises:
        Permanent: `invalid_setting`.
    """
    found: dict[str, int] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, count = (one.strip() for one in part.partition("="))
        if name not in SERVICES:
            raise _invalid(f"there is no service {name!r}; there are {', '.join(SERVICES)}")
        if not count.isdecimal() or not 1 <= int(count) <= MOST_REPLICAS:
            raise _invalid(f"{part!r} must be a service and 1 to {MOST_REPLICAS}: sessions=2")
        found[name] = int(count)
    return found


def _invalid(detail: str) -> Permanent:
    return Permanent("invalid_setting", f"MILLRACE_REPLICAS: {detail}", field="MILLRACE_REPLICAS")


def replica_name(name: str, number: int) -> str:
    """The program's name: the service's own, from the second one on with a number."""
    return name if number == 1 else f"{name}-{number}"


def program_names(replicas: Mapping[str, int]) -> tuple[str, ...]:
    """Every service program by its name, in order."""
    return tuple(
        replica_name(name, number)
        for name in SERVICES
        for number in range(1, replicas.get(name, 1) + 1)
    )


def worker_name(model: str) -> str:
    """The program that serves a hosted model."""
    return f"worker-{as_token(model)}"


def hosted_models(models: Mapping[str, AnyModel], served: str) -> dict[str, ProviderModel]:
    """The models behind somebody's endpoint: each has a worker of its own beside `inference`.

    A worker of such a model costs no more than a process, so that none has to be asked for.
    """
    return {
        name: row
        for name, row in models.items()
        if isinstance(row, ProviderModel) and name != served
    }


def key_variables(models: Mapping[str, AnyModel]) -> dict[str, str]:
    """The variable with its endpoint's key, of every model that has one."""
    return {
        name: row.key_variable
        for name, row in models.items()
        if isinstance(row, ProviderModel) and row.key_variable is not None
    }


def service_programs(
    python: str,
    environment: Mapping[str, str],
    replicas: Mapping[str, int] | None = None,
    own: Callable[[str, int], Mapping[str, str]] = lambda _name, _number: {},
) -> tuple[Program, ...]:
    """Every service as programs; the edge stops first, so that nothing new comes in.

    `own` names what the n-th process of a service has for itself, such as its port.
    """
    return tuple(
        Program(
            replica_name(name, number),
            (python, "-m", f"services.{name}"),
            {**environment, **own(name, number)},
            stage=0 if name in EDGE else 1,
        )
        for name in SERVICES
        for number in range(1, (replicas or {}).get(name, 1) + 1)
    )


def hosted_programs(
    python: str, environment: Mapping[str, str], own: Mapping[str, Mapping[str, str]]
) -> tuple[Program, ...]:
    """A worker for each hosted model; `own` is what its process has for itself."""
    return tuple(
        Program(
            worker_name(model),
            (python, "-m", "services.inference"),
            {**environment, **mine, "MILLRACE_MODEL": model},
        )
        for model, mine in own.items()
    )


def tracing_programs(python: str, environment: Mapping[str, str]) -> tuple[Program, ...]:
    """The service that sends traces, for a system that has somewhere to send them to."""
    return (Program(TRACING, (python, "-m", f"services.{TRACING}"), environment),)


def without(environment: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The environment without these variables: a key is for the worker that needs it alone."""
    hidden = set(names)
    return {name: value for name, value in environment.items() if name not in hidden}


def stop_stages(programs: tuple[Program, ...]) -> list[list[str]]:
    """Names to stop, stage by stage; those of one stage stop together."""
    stages = sorted({program.stage for program in programs})
    return [[p.name for p in programs if p.stage == stage] for stage in stages]


def exit_reason(code: int) -> str:
    """What a return code says, in words."""
    return f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
