"""What the commands need from outside: a client of the system, a terminal, probes, a launcher."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol, Unpack

from services.cli.core.checks import Check as Finding
from services.cli.core.place import Place
from shared.contracts.agents import AgentSpec, LimitsPatch, OnBusy
from shared.contracts.backup import Manifest
from shared.contracts.base import SessionRef
from shared.contracts.control import DeleteReply
from shared.contracts.dead import Filed, Letters, Retried, Wanted
from shared.contracts.facts import Done, Forked
from shared.contracts.keys import Allowance, ApiKey, Issued, NewKey
from shared.contracts.ledger import (
    LedgerQuery,
    LedgerState,
    RebuildLedger,
    TasksQuery,
    TasksReply,
    UsageQuery,
    UsageReply,
)
from shared.contracts.log import Event, StoredFact
from shared.contracts.replay import Check, ReplayReply, ReplayRow
from shared.contracts.retrieval import IndexState, SearchReply
from shared.contracts.schedules import Schedule, Scheduled
from shared.contracts.workers import WorkerState
from shared.fork import ForkOptions

Said = Callable[[str, int], None]
"""Told of progress: a stream, and its bytes so far."""


class Task(Protocol):
    """One request to a session."""

    id: str
    session: str

    def events(self, after: str = "") -> AsyncGenerator[Event]:
        """Facts and deltas in order, each once, until `done`."""

    async def result(self, timeout: float = 60.0) -> Done:  # noqa: ASYNC109  # the client's name
        """Wait for the end."""

    async def cancel(self, by: str = "", reason: str = "") -> int:
        """Record that the task shall stop."""

    async def steer(self, text: str, *, id: str | None = None, by: str = "") -> int:
        """Say something to it; the sequence of the fact, as for all verbs."""

    async def approve(  # the client's options
        self,
        step: int | None = None,
        *,
        arguments: str | None = None,
        result: str | None = None,
        limits: LimitsPatch | None = None,
        by: str = "",
        note: str = "",
    ) -> int:
        """Let a parked step go on; without `step` the only one."""

    async def reject(self, step: int | None = None, *, by: str = "", note: str = "") -> int:
        """Do not let it go on."""

    async def retry(self, task: str | None = None, by: str = "") -> Task:
        """Go on where it failed, as a new task."""


class Session(Protocol):
    """A conversation and its log."""

    async def history(self, after: int = 0) -> list[StoredFact]:
        """The facts after a sequence, in order."""

    def events(self, after: str = "", *, follow: bool = True) -> AsyncGenerator[Event]:
        """Facts and deltas of all its tasks."""

    def replay(self) -> AsyncGenerator[ReplayRow]:
        """Every fact beside what the present code decides."""

    async def replay_at(self, seq: int) -> ReplayReply:
        """One place of the log: its fact, the state and all that is due."""

    async def check(self) -> Check:
        """Compare every decision with the log, up to the first difference."""

    async def delete(self, *, force: bool = False, by: str = "") -> DeleteReply:
        """Forget it, everywhere and for good."""


class Schedules(Protocol):
    """The schedules of the tenant."""

    async def put(self, name: str, schedule: Schedule) -> int:
        """Store one, in the place of the one with that name."""

    async def list(self) -> Sequence[Scheduled]:
        """All, by name."""

    async def delete(self, name: str) -> None:
        """Remove one."""


class Keys(Protocol):
    """The API keys of the tenant."""

    async def create(self, order: NewKey) -> Issued:
        """Make a key; its secret is in the answer and nowhere else."""

    async def list(self) -> Sequence[ApiKey]:
        """All, the oldest first."""

    async def get(self, key: str) -> ApiKey:
        """One of them."""

    async def revoke(self, key: str) -> ApiKey:
        """End it for good."""

    async def rotate(self, key: str, overlap_s: float) -> Issued:
        """Give it a new secret."""

    async def allow(self, allowance: Allowance) -> None:
        """Set how much the tenant may ask for."""


class Fork(Session, Protocol):
    """A session that goes on from another one."""

    ref: SessionRef

    async def origin(self) -> Forked | None:
        """Where it goes on from."""


class DeadLetters(Protocol):
    """Messages that nobody could process."""

    async def list(self, wanted: Wanted | None = None, after: int = 0, limit: int = 50) -> Letters:
        """A page, in the order of the ids."""

    async def get(self, letter: int) -> Filed:
        """One of them."""

    async def retry(self, letter: int, by: str = "") -> Retried:
        """Send its message again, once."""


class Documents(Protocol):
    """A collection."""

    async def upsert(self, document: str, text: str, metadata: dict[str, str] | None = None) -> int:
        """Store a document; its sequence."""

    async def delete(self, document: str) -> int:
        """Remove a document; the sequence of the removal."""

    async def list(self) -> list[str]:
        """The ids, sorted."""

    async def search(
        self, query: str, limit: int = 3, min_score: float = 0.0, min_seq: int = 0
    ) -> SearchReply:
        """Passages, best first."""

    async def state(self) -> IndexState:
        """How far the index is."""


class Client(Protocol):
    """A connection to a running system in the name of one tenant. Errors are `MillraceError`s."""

    @property
    def tenant(self) -> str:
        """Whose data this is about."""

    async def ask(
        self,
        agent: str,
        question: str,
        session: str | None,
        limits: LimitsPatch | None,
        on_busy: OnBusy | None = None,
    ) -> Task:
        """Submit a task; durable when this returns."""

    def task(self, task: str, session: str) -> Task:
        """A task whose session is known."""

    async def find_task(self, task: str) -> Task:
        """A task by its id alone."""

    async def find_copy(self, task: str, site: str = "") -> tuple[str, str] | None:
        """Site and session of a task that ran at a site whose facts are copied here."""

    async def copy_of(self, site: str, session: str, after: int = 0) -> list[StoredFact]:
        """The facts of a site's session that are copied here, in order."""

    def session(self, name: str) -> Session:
        """A session by its name."""

    async def sessions(self) -> list[str]:
        """The names of all sessions, sorted."""

    @property
    def schedules(self) -> Schedules:
        """The schedules of the tenant."""

    @property
    def keys(self) -> Keys:
        """The API keys of the tenant."""

    async def fork(self, session: str, *, at: int | str, **options: Unpack[ForkOptions]) -> Fork:
        """A new session that goes on from a step of this one."""

    def documents(self, collection: str = "default") -> Documents:
        """A collection by its name."""

    def dead(self, *, everyone: bool = False) -> DeadLetters:
        """The tenant's dead letters, or everyone's and nobody's too."""

    async def workers(self) -> list[WorkerState]:
        """Inference workers that are alive."""

    async def agents(self) -> dict[str, tuple[int, AgentSpec]]:
        """Agents this tenant can use."""

    async def tasks(self, query: TasksQuery) -> TasksReply:
        """What the ledger knows of recent tasks."""

    async def usage(self, query: UsageQuery) -> UsageReply:
        """What the ledger has summed up."""

    async def ledger_state(self, query: LedgerQuery) -> LedgerState:
        """How far the ledger is."""

    async def rebuild_ledger(self, order: RebuildLedger) -> LedgerState:
        """Have it read the log again; `log_too_short`."""

    async def index_state(self) -> IndexState:
        """How far the index of all documents is."""

    async def rebuild_index(self) -> IndexState:
        """Have it emptied and filled from the documents again."""

    async def backup(self, folder: Path, said: Said) -> Manifest:
        """Write every durable stream into a new folder."""

    async def restore(self, folder: Path, said: Said, *, force: bool = False) -> Manifest:
        """Make every stream of a backup, where no service runs."""


class Way(Protocol):
    """A way into the system by which `bench` asks tasks."""

    name: str

    async def ask(self, agent: str, question: str, session: str, heard: Callable[[], None]) -> int:
        """Ask and wait for the end; `heard` is called with every piece of text.

        Answers how many tokens were made.

        Raises:
            MillraceError: what went wrong.
        """

    async def forget(self, session: str) -> None:
        """Delete a session of this way, also while its task runs.

        Raises:
            MillraceError: `unknown_session`, and why it could not.
        """


class Terminal(Protocol):
    """The person at the keyboard, if there is one."""

    @property
    def interactive(self) -> bool:
        """Whether somebody can be asked."""

    async def interrupted(self) -> None:
        """Return at the next Ctrl-C, which then does not end the process."""

    async def confirm(self, question: str) -> bool:
        """Ask; a second Ctrl-C or the end of the input is a no."""

    async def line(self, prompt: str) -> str | None:
        """A line of input; None at its end or after Ctrl-C."""


class Probes(Protocol):
    """Looks at the machine and at a system, and judges."""

    def machine(self) -> Sequence[Finding]:
        """Python, data folder, disk, models."""

    async def system(self) -> Sequence[Finding]:
        """Broker, streams, services, HTTP. Never raises for what is away: that is a finding."""

    async def gpu(self) -> Sequence[Finding]:
        """The GPUs of this machine and the library that would use them; likewise."""


@dataclass(frozen=True, slots=True)
class BusKey:
    """A key of a tenant's own clients: the file that holds it, and who knows of it."""

    file: Path
    known: bool
    """Whether the running server lets it in already."""
    url: str = ""


class Launcher(Protocol):
    """Starts the local system, and what comes with it."""

    def __call__(self, arguments: Sequence[str]) -> NoReturn:
        """Become the supervisor, in the place of this process."""

    def broker(self, data: Path) -> AbstractAsyncContextManager[None]:
        """The broker of a data folder alone, for as long as it is needed.

        Raises:
            Transient: `no_broker`, with the end of what it said.
        """

    async def bus_key(self, place: Place, tenant: str, folder: Path | None) -> BusKey:
        """The key of a tenant's clients on the bus, made where there is none.

        Raises:
            Permanent: `invalid_name`, `folder_needed`, and what else was said.
        """
