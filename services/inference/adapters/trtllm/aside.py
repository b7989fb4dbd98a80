"""Owns calls of the library that block, and what comes out of it as an error.

A call that never comes back must hold up neither the event loop nor the end of the process, so it
runs in a thread that dies with the process. Any exception of the library that is not its error of
one request means that the engine is done for (ADR 0034): here is the one place that catches all.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

from services.inference.ports import EngineBroken
from shared.errors import MillraceError, Permanent


async def aside[T](call: Callable[[], T], name: str, within: float) -> T:
    """Call in a thread of its own.

    Raises:
        TimeoutError: it did not come back; it goes on for as long as the process lives.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(outcome: T | None, error: Exception | None) -> None:
        if done.done():
            return  # nobody waits any more
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(outcome)  # type: ignore[arg-type]  # None only where T is

    def run() -> None:
        outcome: T | None = None
        failure: Exception | None = None
        try:
            outcome = call()
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, outcome, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    async with asyncio.timeout(within):
        return await done


def translated[T](call: Callable[[], T], refused: Callable[[Exception], Exception | None]) -> T:
    """The call's outcome; what `refused` knows is raised as what it makes of it.

    Raises:
        EngineBroken: anything else.
    """
    try:
        return call()
    except MillraceError:
        raise
    except Exception as error:
        known = refused(error)
        raise known or EngineBroken(words_of(error)) from error


def attempted[T](call: Callable[[], T]) -> T | None:
    """The call's outcome, None where it cannot be called so: for what an engine can do without."""
    try:
        return call()
    except Exception:
        return None


async def awaited[T](
    step: Callable[[], Awaitable[T]],
    refused: Callable[[Exception], Exception | None],
) -> T:
    """As `translated`, of a coroutine; the end of an iteration and time-outs pass."""
    try:
        return await step()
    except (StopAsyncIteration, TimeoutError, MillraceError):
        raise
    except Exception as error:
        known = refused(error)
        raise known or EngineBroken(words_of(error)) from error


async def built[T](call: Callable[[], T], name: str, within: float) -> T:
    """As `aside`, for what an engine is made with.

    Raises:
        Permanent: `engine_not_loaded`, or what the call says itself.
        EngineBroken: it did not come back.
    """
    try:
        return await aside(call, name, within)
    except TimeoutError as error:
        raise EngineBroken(f"TensorRT-LLM was not built within {within:g} s") from error
    except MillraceError:
        raise
    except Exception as error:
        detail = f"TensorRT-LLM did not start: {words_of(error)}"
        raise Permanent("engine_not_loaded", detail) from error


async def freed(call: Callable[[], object], within: float) -> EngineBroken | None:
    """As `aside`, for the end of an engine: why it did not come to it, None where it did."""
    try:
        await aside(call, "trtllm-shutdown", within)
    except TimeoutError:
        return EngineBroken(f"the engine's shutdown did not come back within {within:g} s")
    except Exception as error:
        return EngineBroken(f"the engine's shutdown failed: {words_of(error)}")
    return None


def words_of(error: Exception) -> str:
    """The kind of an error and the first line of it."""
    line = (str(error).strip().splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
