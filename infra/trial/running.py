"""How both trials run: bounded in time, ended in order by a signal, errors in their own words."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from infra.local.settings import LocalSettings, inherited_environment
from shared.errors import Broken, MillraceError, Transient

LIMIT = 900.0
"""Seconds for everything but `--stay`; an idle machine of two cores needs about 120."""
INTERRUPTED = 130
_REFUSED = "bus.permission_denied"
"""What a service logs when the bus refused it something."""
_OURS = frozenset(
    f"MILLRACE_{name}"
    for name in (
        *("DATA", "DATABASE_URL", "HTTP_PORT", "METRICS_PORT", "MILVUS_TOKEN", "MILVUS_URI"),
        *("NATS_CA", "NATS_CERT", "NATS_CREDS", "NATS_KEY", "NATS_TOKEN", "NATS_URL"),
        *("REPLICAS", "SECRETS", "STREAM_REPLICAS", "WORKER_ID"),
    )
)
"""What a trial says itself: a system that the environment points to must not be touched."""


def environment() -> dict[str, str]:
    """What a trial's programs inherit."""
    return neutral(inherited_environment())


def neutral(inherited: Mapping[str, str]) -> dict[str, str]:
    """An environment that points to no system."""
    return {name: value for name, value in inherited.items() if name not in _OURS}


async def bounded(work: Coroutine[None, None, None]) -> None:
    """Do it within the limit.

    Raises:
        Transient: `trial_timeout`.
    """
    try:
        async with asyncio.timeout(LIMIT):
            await work
    except TimeoutError as error:
        raise Transient("trial_timeout", f"not through after {LIMIT:g} s") from error


def check_refusals(folders: Iterable[Path]) -> None:
    """Look through the logs of these data folders.

    Raises:
        Broken: the bus did not let a service do something.
    """
    logs = (path for folder in folders for path in sorted((folder / "logs").glob("*.log*")))
    found = [
        f"{path.name}: {line}"
        for path in logs
        for line in path.read_text(errors="replace").splitlines()
        if _REFUSED in line
    ]
    if found:
        raise Broken("\n".join(("the bus refused a service something:", *found[:20])))


def carry_out(name: str, work: Callable[[], Coroutine[None, None, int]]) -> int:
    """The exit status of a trial; a signal ends it in order, so that no program stays behind."""
    try:
        return asyncio.run(_until_a_signal(work()))
    except MillraceError as error:
        sys.stderr.write(f"{name}: {error.detail or error}\n")
    except ValidationError as error:
        for one in error.errors():
            sys.stderr.write(f"{name}: MILLRACE_{str(one['loc'][0]).upper()}: {one['msg']}\n")
    except asyncio.CancelledError:
        return INTERRUPTED
    return 1


async def _until_a_signal(work: Coroutine[None, None, int]) -> int:
    task = asyncio.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def settings_of(**values: object) -> LocalSettings:
    """Settings of a site, over whatever the environment says about another system."""
    neutral_values: dict[str, object] = {
        "nats_creds": None,
        "worker_id": None,
        "metrics_port": 0,
        "bus_tls": False,  # said to the servers, which are somebody else's to the site's settings
    }
    return LocalSettings.model_validate({**neutral_values, **values})
