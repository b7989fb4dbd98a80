"""Input by lines from a pipe and a file, and Ctrl-C as a value."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.adapters.terminal import SystemTerminal


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


async def test_a_pipe_that_delivers_many_lines_at_once_loses_none(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    terminal = SystemTerminal(reader)
    os.write(writer, "one\ntwo\nünfinished".encode())
    os.close(writer)
    assert [await terminal.line("> ") for _ in range(4)] == ["one", "two", "ünfinished", None]


async def test_a_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "questions"
    path.write_text("one\ntwo\n")
    source = os.open(path, os.O_RDONLY)
    terminal = SystemTerminal(source)
    assert [await terminal.line("") for _ in range(3)] == ["one", "two", None]
    os.close(source)


async def test_ctrl_c_ends_a_question_without_an_answer(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    terminal = SystemTerminal(reader)
    waiting = asyncio.create_task(terminal.confirm("sure?"))
    await asyncio.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
    assert await waiting is False
    os.close(writer)


async def test_ctrl_c_is_something_to_wait_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    waiting = asyncio.create_task(SystemTerminal(reader).interrupted())
    await asyncio.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(waiting, 2)
    os.close(writer)


async def test_only_yes_is_a_yes(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    terminal = SystemTerminal(reader)
    os.write(writer, b" Yes \nn\n\n")
    os.close(writer)
    assert [await terminal.confirm("?") for _ in range(4)] == [True, False, False, False]
    assert terminal.interactive is False
