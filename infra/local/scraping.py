"""Where the processes show how they are: a port for each, and the file that tells Prometheus.

The ports are chosen here and not by the processes, so that one which does not start is missed.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from infra.local.plan import Program
from infra.private_file import write_private
from shared.errors import Permanent
from shared.metrics.exporter import TARGETS_FILE
from shared.settings import Place

_PORT = "MILLRACE_METRICS_PORT"


@dataclass(frozen=True, slots=True)
class Target:
    """A process that is scraped: its program's name, and the service that it runs."""

    name: str
    service: str
    port: int


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody listens on now, all of them different.

    Raises:
        Permanent: `invalid_setting`, for an address that is not of this machine.
    """
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            probe = stack.enter_context(socket.socket(family))
            try:
                probe.bind((host, 0))
            except OSError as error:
                detail = f"MILLRACE_METRICS_HOST={host}: {error.strerror or error}"
                raise Permanent("invalid_setting", detail, field="MILLRACE_METRICS_HOST") from error
            found.append(probe.getsockname()[1])
        return found


def ports_of(place: Place, names: Sequence[str]) -> dict[str, int]:
    """A port for each program: free ones, or a row of them from the one that is set; none if off.

    Raises:
        Permanent: `invalid_setting`.
    """
    if place.port == "off":
        return {}
    if place.port == 0:
        return dict(zip(names, free_ports(place.host, len(names)), strict=True))
    if place.port + len(names) > 65536:
        detail = f"{_PORT}={place.port}: {len(names)} processes need as many ports"
        raise Permanent("invalid_setting", detail, field=_PORT)
    return {name: place.port + n for n, name in enumerate(names)}


def with_ports(
    programs: Sequence[Program], host: str, ports: Mapping[str, int]
) -> tuple[Program, ...]:
    """The programs, each told where to show how it is."""
    return tuple(
        replace(
            program,
            environment={
                **program.environment,
                "MILLRACE_METRICS_HOST": host,
                _PORT: str(ports.get(program.name, "off")),
            },
        )
        for program in programs
    )


def targets_of(programs: Sequence[Program], ports: Mapping[str, int]) -> tuple[Target, ...]:
    """The programs that have a port; each runs the module of its service."""
    return tuple(
        Target(one.name, one.argv[-1].rpartition(".")[2], ports[one.name])
        for one in programs
        if one.name in ports
    )


def write_targets(data: Path, host: str, found: Sequence[Target]) -> None:
    """Write what Prometheus reads, in one step; whoever runs it may. Without targets it goes."""
    path = data / TARGETS_FILE
    if not found:
        path.unlink(missing_ok=True)
        return
    at = f"[{host}]" if ":" in host else host
    rows = [
        {
            "targets": [f"{at}:{one.port}"],
            "labels": {"service": one.service, "instance": one.name},
        }
        for one in found
    ]
    write_private(path, orjson.dumps(rows, option=orjson.OPT_INDENT_2), 0o644)
