"""Owns the border to pymilvus: its import, its threads, its time-outs and its errors.

Must not know rows or queries. Without a deadline a call can hang for ever and its failures come
in three unrelated families (facts: retrieval.md section 1), hence one way through here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Concatenate

import grpc  # type: ignore[import-untyped]  # its stubs are no dependency of ours

from shared.errors import Broken, MillraceError, Permanent, Transient

__all__ = ["READ", "SLOW", "WRITE", "Client", "DataType", "MilvusBorder", "translated"]

# Importing pymilvus loads any .env above its folder into the environment; this switches that off.
os.environ.setdefault("PYTHON_DOTENV_DISABLED", "1")  # noqa: TID251 - written, never read

import pymilvus
from pymilvus import DataType, MilvusException

# They print a traceback per failed call; Milvus Lite fails calls it lacks as a matter of course.
for _name in ("pymilvus", "grpc._server"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

READ, WRITE, SLOW = 3.0, 30.0, 60.0
"""Deadlines in seconds: of one search, of one write, of what touches a whole collection."""
_GRACE = 0.5
_REFUSED = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_BAD_REQUEST = frozenset({1100, 1101, 65535, 6})
"""Codes of a request that Milvus cannot parse; ours are built by code, so it is our bug."""
Client = Any  # pymilvus ships no types that mypy --strict accepts


class MilvusBorder:
    """A client whose calls run in threads, end in time and raise our errors only.

    All writes run in one thread: concurrent writers lose rows on Milvus Lite, and a lock would
    not do, because a cancelled caller releases it while its call still runs.
    """

    def __init__(self, uri: str, token: str = "") -> None:
        self._uri, self._token = uri, token
        self.lite = uri.endswith(".db") and "://" not in uri
        self._client: Client = None
        self._readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="milvus-read")
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="milvus-write")

    async def connect(self) -> str:
        """Open the connection (or the database file) and ask for the server's version.

        Raises:
            Transient: `index_unavailable`.
            Permanent: `index_refused`.
        """

        def open_client() -> str:
            if self.lite:
                Path(self._uri).parent.mkdir(parents=True, exist_ok=True)
            self._client = pymilvus.MilvusClient(uri=self._uri, token=self._token, timeout=WRITE)
            # The constructor may not touch the network; this does.
            return str(self._client.get_server_version(timeout=READ))

        try:
            return await self._guarded(self._writer, open_client)
        except Transient as error:
            hint = "; another process may hold the file" if self.lite else ""
            raise Transient(error.code, error.detail + hint) from error

    async def read[**P, R](
        self, method: Callable[Concatenate[Client, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run `method(client, ...)` beside others; it must pass a deadline of `READ` on.

        Raises:
            Transient: `index_unavailable`.
            Permanent: `index_refused`.
            Broken: `index_query`.
        """
        async with _limit(READ + _GRACE):
            return await self._guarded(
                self._readers, partial(method, self._client, *args, **kwargs)
            )

    async def write[**P, R](
        self, method: Callable[Concatenate[Client, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run `method(client, ...)` after all writes before it; it may make several calls, each
        with a deadline of its own. It runs to its end even when the caller is cancelled.

        Raises:
            As `read` does.
        """
        return await self._guarded(self._writer, partial(method, self._client, *args, **kwargs))

    async def _guarded[R](self, threads: ThreadPoolExecutor, work: Callable[[], R]) -> R:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work)
        except (MilvusException, grpc.RpcError, TimeoutError) as error:
            raise translated(error) from error

    async def close(self) -> None:
        """Close the client; of a database file also the lock, which the client would keep."""
        if self._client is not None:
            client, self._client = self._client, None
            await self._guarded(
                self._writer, partial(_close, client, self._uri if self.lite else "")
            )
        for threads in (self._readers, self._writer):
            threads.shutdown(wait=True, cancel_futures=True)


@asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    """A deadline around a call whose own deadline did not work."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise translated(error) from error


def translated(error: BaseException) -> MillraceError:
    """What a failure of the database means to us."""
    status = _status(error) or _status(error.__cause__)
    if status in _REFUSED:
        return Permanent("index_refused", f"the vector database answered {status.name}")
    code = getattr(error, "code", None)
    if isinstance(error, MilvusException) and code in _BAD_REQUEST:
        return Broken("index_query", f"the vector database could not read a request ({code})")
    what = f"code {code}" if isinstance(error, MilvusException) else type(error).__name__
    return Transient("index_unavailable", f"the vector database is not available ({what})")


def _status(error: BaseException | None) -> Any:  # noqa: ANN401 - a grpc.StatusCode, untyped
    return error.code() if isinstance(error, grpc.Call) else None


def _close(client: Client, file: str) -> None:
    client.close()
    if file:
        from milvus_lite import server_manager_instance  # only there where the file is used

        server_manager_instance.release_server(file)
