"""Real endpoints: llama.cpp's server and our own ingress, each in both dialects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from infra.local.settings import ROOT, inherited_environment
from services.inference.adapters.provider.chat import ProviderChat
from services.inference.adapters.provider.factory import build_provider
from services.inference.core.answering import Answer, Json, Owner, Piece, Question
from services.inference.core.demands import Held
from services.inference.core.generation import GenerationResult
from shared.clock import monotonic
from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.demands import Demands
from shared.models import Api, ProviderModel
from tests.integration.provider.llama_server import NANO, write_gguf

SERVER = "tests.integration.provider.llama_server"
KEY = "a-key" + "-of-its-own"
CALCULATOR = ToolSpec(
    name="calculator",
    description="Calculates.",
    parameters={
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
)


@dataclass(frozen=True)
class Place:
    """An endpoint and what its model understands: a greeting, a task for the calculator."""

    api: Api
    url: str
    model: str
    hello: str
    answer: str
    sum: str
    """Makes it call the calculator."""
    total: str
    """What it says then has this in it."""
    enforces: bool
    """Whether it can be made to call."""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def row(self, **more: object) -> ProviderModel:
        path = "/v1" if self.api == "openai" else ""
        given = {
            "name": self.model, "api": self.api, "base_url": self.url + path, "key": "THE_KEY",
            "context": 4096, **more,
        }  # fmt: skip
        return ProviderModel(**given)  # type: ignore[arg-type]


def llama(url: str, api: Api) -> Place:
    """The small model on llama.cpp."""
    talk = ("Hello", "Hello! How can I help you?", "What is 17 * 23?", "391")
    return Place(api, url, "nano", *talk, enforces=True)


def millrace(url: str, api: Api) -> Place:
    """The scripted model behind our own ingress."""
    talk = ("say Hello you", "Hello you", "call calculator", "got 391")
    return Place(api, url, "nano", *talk, enforces=False)


@contextmanager
def llama_server(folder: Path, port: int = 0, *more: str) -> Iterator[str]:
    """The server as a process of its own; answers its address."""
    file = folder / "nano.gguf"
    if not file.exists():
        write_gguf(NANO, file)
    with (folder / "llama.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", SERVER, str(file), KEY, str(port), *more],
            cwd=ROOT, env=inherited_environment(), stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert url, (folder / "llama.log").read_text()[-2000:]
        yield url
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def started(row: ProviderModel, key: str = KEY) -> AsyncIterator[ProviderChat]:
    chat = build_provider(row, {"THE_KEY": key}.get)
    try:
        await chat.start()
        yield chat
    finally:
        await chat.close()


@dataclass
class Said:
    """A whole answer, as it was told and as it was summed up."""

    pieces: list[Piece]
    result: GenerationResult
    answer: Answer

    @property
    def text(self) -> str:
        return "".join(piece[1] for piece in self.pieces if isinstance(piece, tuple))


@dataclass
class Asking:
    """One question to a chat model; `pieces` grows while it is answered."""

    chat: ProviderChat
    question: Question
    pieces: list[Piece] = field(default_factory=list)

    async def said(self) -> Said:
        answer = Answer(0.0, monotonic)
        async for piece in self.chat.pieces(self.question, answer):
            self.pieces.append(piece)
        assert answer.result is not None
        return Said(self.pieces, answer.result, answer)


def asking(
    chat: ProviderChat,
    *messages: str | Json,
    tools: Sequence[ToolSpec] = (),
    demands: Demands | None = None,
    name: str = "r",
    **sampling: object,
) -> Asking:
    talk = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
    held = Held(demands or Demands(), tools)
    found = Sampling(**sampling)  # type: ignore[arg-type]
    return Asking(chat, Question(talk, held, found, Owner(name, "t")))
