"""Where a task is to be found: in a session of ours, or in the copy of a site's."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from services.cli.ports import Client
from shared.contracts.ledger import TasksQuery
from shared.contracts.log import StoredFact
from shared.errors import Permanent, Transient

_QUEUED = "a queued one needs --session"


@dataclass(frozen=True, slots=True)
class Story:
    """The facts of a session; of a site's, where it is a copy."""

    session: str
    facts: Sequence[StoredFact]
    site: str = ""

    def tells(self, task: str) -> bool:
        """Whether the task is in it."""
        return any(one.task == task for one in self.facts)


async def story_of(client: Client, task: str, session: str | None, site: str) -> Story:
    """The session of a task: our own, or the copy of a site's where we know of none.

    Raises:
        Permanent: `unknown_task`.
    """
    if site and session:
        return Story(session, await client.copy_of(site, session), site)
    own = None if site else await _own_story(client, task, session)
    if own is not None and (session or own.tells(task)):
        return own
    copied = await client.find_copy(task, site)
    if copied is not None:
        return Story(copied[1], await client.copy_of(*copied), copied[0])
    if own is not None:
        return own
    where = f" at {site}" if site else ""
    raise Permanent("unknown_task", f"no task {task!r} is known{where}; {_QUEUED}")


async def _own_story(client: Client, task: str, session: str | None) -> Story | None:
    """As far as we know; a hub's ledger knows the sessions of its sites, its own log does not."""
    try:
        name = session or await session_of(client, task)
    except Permanent as error:
        if error.code != "unknown_task":
            raise
        return None
    return Story(name, await client.session(name).history())


async def session_of(client: Client, task: str) -> str:
    """The session of a task: from the log, or from the ledger for one that still waits.

    Raises:
        Permanent: `unknown_task`.
    """
    try:
        return (await client.find_task(task)).session
    except Permanent as error:
        if error.code != "unknown_task":
            raise
    with contextlib.suppress(Transient):  # the ledger may be away
        reply = await client.tasks(TasksQuery(tenant=client.tenant, task=task, limit=1))
        if reply.tasks:
            return reply.tasks[0].session
    raise Permanent("unknown_task", f"no task {task!r} is known; {_QUEUED}")
