"""What TIMERS fires beside the timers of tasks: one more kind of message for the same consumer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from shared.bus.consume import Delivery, Job
from shared.contracts.base import Message
from shared.errors import Failure


def beside[M, N](
    job: Job[M],
    kind: type[N],
    read: Callable[[Delivery], N | None],
    handle: Callable[[N], Awaitable[None]],
) -> Job[M | N]:
    """The job with another kind of message among its own; `read` answers None for those."""
    give_up = job.give_up

    def reading(delivery: Delivery) -> M | N:
        return read(delivery) or job.read(delivery)

    async def handling(message: M | N) -> Sequence[Message]:
        if not isinstance(message, kind):
            return await job.handle(message)  # type: ignore[arg-type]  # not the other kind
        await handle(message)
        return ()

    async def emitting(message: M | N, results: Sequence[Message]) -> None:
        if not isinstance(message, kind):
            await job.emit(message, results)  # type: ignore[arg-type]

    def given_up(message: M | N, failure: Failure) -> Sequence[Message]:
        if give_up is None or isinstance(message, kind):
            return ()
        return give_up(message, failure)  # type: ignore[arg-type]

    return Job(job.consumer, reading, handling, emitting, given_up)
