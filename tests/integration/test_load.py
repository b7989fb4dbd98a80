"""The load test and `millrace bench` against a whole system whose model answers at once, and

against broken servers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import orjson
import pytest
import pytest_asyncio

from infra.local.settings import ROOT, inherited_environment
from loadtests.operations import OPERATIONS
from loadtests.result import Result
from services.cli.adapters.http import over_http
from services.cli.core.place import Place
from shared.client import Millrace
from shared.errors import Permanent, Transient
from tests.integration.ingress_system import Ingress
from tests.integration.instant_system import instant_system
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
QUESTIONS = """
chat: [{ask: say 4, expect: [tok3]}, {ask: say 1, expect: [hello]}]
agent: [{ask: steps 2, expect: [2 sums]}]
"""
LENGTH = b"Content-Length: "
WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ILL = b'HTTP/1.1 500 No\r\nContent-Length: 17\r\n\r\n{"code":"broken"}'
PIECE = b'data: {"choices":[{"delta":{"content":"hello"},"finish_reason":"stop"}]}\n\n'
CUT = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(PIECE), PIECE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingress]:
    async with instant_system(tmp_path_factory.mktemp("load")) as running:
        yield running


async def load(folder: Path, *argv: str, **more: str) -> tuple[int, Result, str]:
    """Run it; the exit status, the result that it wrote, and all that it said."""
    (folder / "questions.yaml").write_text(QUESTIONS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests", "--out", str(folder), "--pause", "0"),
        *("--questions", str(folder / "questions.yaml"), *argv),
        cwd=ROOT,
        env=inherited_environment() | {"MILLRACE_DATA": str(folder), **more},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode is not None
    assert (folder / "result.json").exists(), said
    result = msgspec.json.decode((folder / "result.json").read_bytes(), type=Result)
    return process.returncode, result, said


@pytest.mark.asyncio(loop_scope="module")
async def test_everything_is_done_and_right(front: Ingress, tmp_path: Path) -> None:
    assert front.system is not None
    at = orjson.loads((front.system.data / "nats.json").read_bytes())
    nats = {"MILLRACE_NATS_URL": at["url"], "MILLRACE_NATS_TOKEN": at["token"]}
    argv = ("--url", front.url, "--seconds", "3", "--users", "4")
    _, result, said = await load(tmp_path, *argv, **nats)
    assert result.sums.failed == result.sums.refused == 0, said
    assert not result.reasons
    assert {line.operation for line in result.lines if line.count} == set(OPERATIONS)
    assert result.sums.watched
    assert result.sums.tasks > 0
    assert result.sums.steps_per_second > 0
    correctness = {"failed", "refused", "floor", "ends", "crash", "idle"}
    assert not correctness & {breach.rule for breach in result.breaches}, said
    streams = {line.operation for line in result.lines if line.first is not None}
    assert {"nats_task", "chat_stream", "task_events"} <= streams
    page = (tmp_path / "report.html").read_text()
    assert "chat_stream" in page
    assert at["token"] not in page + said


async def serve() -> asyncio.Server:
    """A server that is ready, cuts every stream off, and answers all else with an error."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                sizes = [line[16:] for line in head.split(b"\r\n") if line.startswith(LENGTH)]
                asked = await reader.readexactly(int(sizes[0])) if sizes else b""
                stream = b'"stream":true' in asked
                well = head.startswith((b"GET /readyz", b"GET /healthz"))
                writer.write(WELL if well else CUT if stream else ILL)
                await writer.drain()
                if stream:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", 0)


async def test_a_broken_server_is_counted_and_fails_the_run(tmp_path: Path) -> None:
    async with await serve() as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        argv = ("--url", url, "--only", "chat,chat_stream", "--seconds", "1", "--users", "2")
        code, result, said = await load(tmp_path, *argv)
    assert code == 1, said
    assert result.sums.failed == result.sums.operations > 0
    reasons = {reason.operation: reason.reason for reason in result.reasons}
    assert reasons["chat"] == "http_status: 500 broken"
    assert reasons["chat_stream"].startswith("connection")
    assert {"failed", "floor"} <= {breach.rule for breach in result.breaches}
    assert "rules broken" in said


async def bench(front: Ingress, *argv: str) -> tuple[int, str, str]:
    """`millrace bench` of the running system; exit status and both outputs."""
    assert front.system is not None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "--data", str(front.system.data), "bench"),
        *("--seconds", "0.2", "--at-once", "3", "--json", *argv),
        cwd=ROOT,
        env=inherited_environment() | {"MILLRACE_HTTP_PORT": front.url.rpartition(":")[2]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bench_measures_both_ways_in_and_leaves_nothing(front: Ingress) -> None:
    code, out, err = await bench(front, "--question", "steps 2")
    assert code == 0, err
    found = orjson.loads(out)
    assert found["sessions_left"] == {}
    assert [(one["over"], one["at_once"]) for one in found["phases"]] == [
        (way, lanes) for way in ("nats", "http") for lanes in (1, 1, 3)
    ]
    for one in found["phases"]:
        assert one["errors"] == {}
        assert one["tasks"] >= one["at_once"]
        assert 0 < one["first_token_ms"]["p50"] <= one["task_ms"]["p95"]
        assert one["overhead_ms"]["p50"] <= one["overhead_ms"]["p95"]
        assert one["tokens_per_second"] > 0
    assert front.system is not None
    async with Millrace.connect(data=front.system.data) as client:

        async def gone() -> bool:
            return not any(name.startswith("bench") for name in await client.sessions())

        await until(gone)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bench_of_an_agent_that_is_not_there_says_so(front: Ingress) -> None:
    code, out, err = await bench(front, "--agent", "nobody")
    assert code == 1
    phases = orjson.loads(out)["phases"]
    assert [(one["over"], one["tasks"]) for one in phases] == [("nats", 1), ("http", 1)]
    assert "unknown_agent" in phases[0]["errors"]
    assert phases[1]["errors"]
    assert err.count(" x ") == 2


async def test_a_bench_takes_nothing_from_a_server_that_cuts_streams() -> None:
    server = await serve()
    port = server.sockets[0].getsockname()[1]
    async with server, over_http(Place(Path(), "127.0.0.1", port, Path()), "acme", "") as way:
        with pytest.raises(Transient, match="stream_cut"):
            await way.ask("assistant", "hello", "s1", lambda: None)
        with pytest.raises(Permanent, match="broken"):
            await way.forget("s1")


async def test_a_bench_without_an_ingress_names_the_way_to_one() -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(Transient, match=r"no_ingress.*make run"):
        async with over_http(Place(Path(), "127.0.0.1", port, Path()), "acme", ""):
            pass
