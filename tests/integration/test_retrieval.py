"""Retrieval as a process on a real broker, with the real model and Milvus Lite."""

from __future__ import annotations

import asyncio
import base64
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from infra.local.settings import ROOT, inherited_environment
from shared.client import Documents, Millrace
from shared.contracts.base import decode
from shared.contracts.dead import DeadLetter
from shared.contracts.retrieval import EmbedReply, EmbedRequest, IndexState, SearchReply
from shared.documents import ask
from shared.errors import Permanent, Transient
from shared.subjects import DEAD, DOCS, EMBED
from tests.integration.edge_system import EdgeSystem, edge_system

pytestmark = pytest.mark.integration

LEAVE = (
    "# Leave\n\n## Annual leave\nEveryone gets 28 days of annual leave per year.\n"
    "It is approved by the line manager.\n"
)
TRAVEL = "# Travel\n\n## Hotels\nOne night in a hotel may cost up to 140 euros.\n"


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[EdgeSystem]:
    async with edge_system(tmp_path) as system:
        yield system


async def search(documents: Documents, query: str, min_seq: int = 0) -> SearchReply:
    """Ask until the service answers: it may still be starting."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await documents.search(query, min_seq=min_seq)
            except Transient:
                await asyncio.sleep(0.1)


async def state(documents: Documents, watermark: int) -> IndexState:
    """The state, once the index has come that far."""
    await search(documents, "anything", watermark)
    return await documents.state()


async def test_documents_are_found_replaced_and_removed(system: EdgeSystem) -> None:
    async with system.client() as client, system.service("retrieval"):
        books = client.documents("handbook")
        await books.upsert("leave.md", LEAVE)
        sequence = await books.upsert("travel.md", TRAVEL)
        reply = await search(books, "How many days of annual leave do I get?", sequence)
        best = reply.results[0]
        asked = {"query": "How many days of annual leave do I get?", "collection": "handbook"}
        told = await client.bus.request("ask.default.search", orjson.dumps(asked))
        assert decode(told, SearchReply).results == reply.results
        assert best.document == "leave.md"
        assert best.text == LEAVE[best.start : best.end]
        assert best.score > 0.5
        assert reply.watermark >= sequence
        await check_highlights(books)
        assert (await search(client.documents("other"), "annual leave")).results == ()
        await check_tenants(system, sequence)
        sequence = await books.upsert("leave.md", LEAVE.replace("28", "31"))
        assert "31 days" in (await search(books, "annual leave", sequence)).results[0].text
        sequence = await books.delete("leave.md")
        found = (await search(books, "annual leave", sequence)).results
        assert {passage.document for passage in found} == {"travel.md"}
        await check_embedding(client)
        await check_dead_letter(client)


async def check_highlights(books: Documents) -> None:
    days = await books.search("How many days of annual leave do I get?", highlight=True)
    assert days.results[0].highlight == "Everyone gets 28 days of annual leave per year."
    boss = await books.search("Whose approval does annual leave need?", highlight=True)
    assert boss.results[0].highlight == "It is approved by the line manager."


async def check_tenants(system: EdgeSystem, sequence: int) -> None:
    async with system.client(tenant="stranger") as stranger:
        found = await search(stranger.documents("handbook"), "annual leave", sequence)
        assert found.results == ()


async def check_embedding(client: Millrace) -> None:
    reply = await ask(client.bus, EMBED, EmbedRequest(texts=("one", "two")), EmbedReply)
    assert [len(vector) for vector in reply.vectors] == [384, 384]
    assert reply.model == "all-MiniLM-L6-v2"
    with pytest.raises(Permanent) as caught:
        await client.documents("handbook").search(" ")
    assert caught.value.field == "query"


async def check_dead_letter(client: Millrace) -> None:
    """What is no document goes aside at once and holds nobody up."""
    subject = "docs.default.handbook.broken"
    await client.bus.publish(subject, b"not json")
    after = await client.documents("handbook").upsert("travel.md", TRAVEL)
    await search(client.documents("handbook"), "hotel", after)
    stored = await client.bus.api(
        f"STREAM.MSG.GET.{DEAD}", {"last_by_subj": "dead.*.*.retrieval.>"}
    )
    letter = decode(base64.b64decode(stored["message"]["data"]), DeadLetter)
    assert (letter.subject, letter.error.code) == (subject, "invalid_message")
    assert (letter.body, letter.deliveries) == ("not json", 1)


async def test_the_index_survives_a_kill_and_is_rebuilt_when_lost(system: EdgeSystem) -> None:
    async with system.client() as client:
        books = client.documents("handbook")
        async with system.service("retrieval", kill=True):
            sequence = await books.upsert("leave.md", LEAVE)
            before = await state(books, sequence)
        sequence = await books.upsert("travel.md", TRAVEL)
        async with system.service("retrieval"):
            after = await state(books, sequence)
            assert after.chunks == before.chunks + 1, "only what was missed was indexed"
            assert after.engine.startswith("milvus_lite")
        shutil.rmtree(system.data / "milvus.db")
        async with system.service("retrieval"):
            assert (await state(books, sequence)).chunks == after.chunks
            assert (await search(books, "hotel night")).results[0].document == "travel.md"


async def test_a_second_process_stands_by_and_takes_over(system: EdgeSystem) -> None:
    """The index in a file is for one: two that write lose rows."""
    async with system.client() as client, AsyncExitStack() as later:
        books = client.documents("handbook")
        async with system.service("retrieval", kill=True):
            sequence = await books.upsert("leave.md", LEAVE)
            await state(books, sequence)
            waits = "retrieval.stands_by"
            async with system.service("retrieval", says=waits):
                pass  # told to end while it stands by: it does
            await later.enter_async_context(system.service("retrieval", says=waits))
            assert (await search(books, "annual leave")).results
        sequence = await books.upsert("travel.md", TRAVEL)
        after = await state(books, sequence)
        assert after.chunks == 2


async def test_the_index_is_rebuilt_while_it_is_used(system: EdgeSystem) -> None:
    """What it should not have is gone, what it should have is there, and nobody gets an error."""
    async with system.client() as client, system.service("retrieval"):
        books = client.documents("handbook")
        for number in range(8):
            await books.upsert(f"page-{number}.md", f"# Page {number}\n\nThe code is {number}.\n")
        lost = await books.upsert("lost.md", "# Lost\n\nNobody has this document any more.\n")
        sequence = await books.upsert("leave.md", LEAVE)
        before = await state(books, sequence)
        await client.bus.api(f"STREAM.MSG.DELETE.{DOCS}", {"seq": lost})

        done = asyncio.Event()
        asking = asyncio.create_task(ask_on(books, done))
        await rebuild(system.data)
        after = await books.state()
        assert (after.remaining, after.chunks) == (0, before.chunks - 1)
        assert "lost.md" not in await documents_found(books, "Nobody has this document")
        sequence = await books.upsert("travel.md", TRAVEL)
        assert (await search(books, "hotel", sequence)).results[0].document == "travel.md"
        done.set()
        assert await asking > 0


async def ask_on(documents: Documents, done: asyncio.Event) -> int:
    """Search all the while; an error ends it."""
    count = 0
    while not done.is_set():
        await documents.search("annual leave")
        count += 1
    return count


async def documents_found(documents: Documents, query: str) -> set[str]:
    return {one.document for one in (await documents.search(query, limit=20)).results}


async def rebuild(data: Path) -> None:
    command = [sys.executable, "-m", "services.cli", "--data", str(data), "docs", "rebuild"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=inherited_environment(), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"9 documents read" in out
