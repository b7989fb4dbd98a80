"""Models behind endpoints: llama.cpp's server and our own ingress, each in both dialects.

Behind ours is once the embedded engine, which can do everything, and once a model that says what it
is asked to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from services.inference.adapters.openvino.engine import OpenVinoEngine
from services.inference.adapters.openvino.factory import build_chat
from services.inference.adapters.openvino.grammar import AnswerConstraint
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.provider.chat import ProviderChat
from services.inference.adapters.provider.factory import build_provider
from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.core.chat import ChatTemplate
from services.inference.handlers import EngineChat, Model
from shared.models import Api
from tests.contract.engines.chat_harness import ChatHarness, Lack, MakeChat
from tests.contract.engines.chat_suite import ChatSuite
from tests.contract.engines.fallible import Switches
from tests.contract.engines.test_instant_chat import CALL, CONTEXT, echo
from tests.e2e.clients.fronts import running_fronts
from tests.fakes.instant_engine import InstantEngine, InstantOptions
from tests.fakes.scripted_model import END, TEMPLATE, ByteTokenizer
from tests.integration.provider.endpoints import KEY, Place, llama, llama_server, millrace

# The small model on llama.cpp fills schemas with white space, and its template gives the server no
# hold to make it call; so a row that is honest about this server lists both.
NOT_LLAMAS: frozenset[Lack] = frozenset(
    ("response_format", "tool_choice", "seed", "failed", "broken")
)
NOT_OPENAIS: frozenset[Lack] = frozenset(("count", "stop_string"))
NOT_ANTHROPICS: frozenset[Lack] = frozenset(
    ("response_format", "logprobs", "logit_bias", "penalties", "seed")
)


def model_of(place: Place, *lacks: str) -> ProviderChat:
    row = place.row(concurrency=16, lacks=frozenset(lacks))
    return build_provider(row, {"THE_KEY": KEY}.get)


def echoing(worker: str) -> Model:
    """Says what it is asked to, and enforces nothing."""
    options = InstantOptions(vocabulary=END + 1, context_tokens=CONTEXT, kv_blocks=CONTEXT)
    engine = InstantEngine(echo, options)
    chat = EngineChat(engine, ByteTokenizer(), ChatTemplate(TEMPLATE, ()), CONTEXT)
    return Model("nano", worker, chat, slots=16)


@dataclass
class Embedded:
    """The embedded engine on a model with random weights, which can do everything."""

    folder: Path
    switches: Switches = field(default_factory=Switches)

    def __call__(self, worker: str) -> Model:
        options = EngineOptions(max_sequences=16, kv_blocks=512)
        tokenizer = FolderTokenizer(self.folder)
        chat = build_chat(self.folder, options)
        chat.engine = OpenVinoEngine(
            partial(self.switches.load, self.folder, options),
            partial(AnswerConstraint, tokenizer.vendor, tokenizer.vocabulary),
            options,
        )
        return Model("nano", worker, chat, slots=16)


def llamas(url: str, api: Api) -> MakeChat:
    own = NOT_OPENAIS if api == "openai" else NOT_ANTHROPICS
    lacks = ("response_format", "tool_choice")
    return lambda: ChatHarness(model_of(llama(url, api), *lacks), NOT_LLAMAS | own)


@pytest.fixture(scope="module")
def llama_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama_server(tmp_path_factory.mktemp("llama")) as url:
        yield url


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    name="make",
    params=["llama-openai", "llama-anthropic", "millrace-openai", "millrace-anthropic"],
)
async def make_chat(
    request: pytest.FixtureRequest,
    llama_url: str,
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[MakeChat]:
    folder = tmp_path_factory.mktemp("fronts")
    match request.param:
        case "llama-openai":
            yield llamas(llama_url, "openai")
        case "llama-anthropic":
            yield llamas(llama_url, "anthropic")
        case "millrace-openai":
            embedded = Embedded(tiny_model)
            async with running_fronts(folder, embedded) as fronts:
                place = millrace(fronts.urls[0], "openai")
                fail = partial(embedded.switches.turn, "failing")
                lacks = NOT_OPENAIS | {"broken"}
                yield lambda: ChatHarness(model_of(place), lacks, fail_next_step=fail)
        case "millrace-anthropic":
            async with running_fronts(folder, echoing) as fronts:
                place = millrace(fronts.urls[0], "anthropic")
                engine = fronts.loop.engine()
                yield lambda: ChatHarness(
                    model_of(place),
                    NOT_ANTHROPICS | {"tool_choice", "broken"},
                    says=lambda text: text,
                    calls=lambda: CALL,
                    fail_next_step=engine.fail_next_step,
                )


class TestProviderChat(ChatSuite):
    """All of it."""
