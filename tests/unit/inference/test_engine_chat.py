"""A chat model made of an engine: what it counts of a session, and when it reads its tokens."""

from __future__ import annotations

import pytest

from services.inference.core.answering import Answer, Owner, Question
from services.inference.core.chat import ChatTemplate
from services.inference.core.demands import Held
from services.inference.core.dialect import Dialect
from services.inference.handlers import EngineChat
from services.inference.ports import GenerateRequest
from shared.contracts.agents import Sampling
from shared.contracts.demands import Demands
from shared.errors import Permanent
from tests.fakes.instant_engine import InstantEngine, InstantOptions
from tests.fakes.scripted_model import END, TEMPLATE, ByteTokenizer


async def ask(chat: EngineChat, session: str, *texts: str) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    owner = Owner(f"r{'-'.join(texts)}", "acme", session)
    question = Question(messages, Held(Demands()), Sampling(max_tokens=2), owner)
    async for _ in chat.pieces(question, Answer(0.0, lambda: 0.0)):
        pass


RECALLING = (
    "{% for m in messages %}{{ m.role }}{{ m.content }}{{ m.reasoning_content }}{% endfor %}"
)
THINKING = (
    "{% for message in messages %}{{ message.content }}{{ message.thinking }}"
    "{{ message.reasoning }}{% endfor %}"
)


async def prompt_of(template: str, content: str) -> str:
    """The prompt of a turn in which the model has thought and called before."""
    seen: list[bytes] = []

    def script(request: GenerateRequest) -> list[int]:
        seen.append(bytes(request.prompt))
        return [END]

    engine = InstantEngine(script, InstantOptions(vocabulary=END + 1))
    chat = EngineChat(engine, ByteTokenizer(), ChatTemplate(template, ()), 512)
    await chat.start()
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": content}]
    question = Question(
        messages, Held(Demands()), Sampling(max_tokens=2), Owner("r", "t"), thoughts={1: "hm"}
    )
    async for _ in chat.pieces(question, Answer(0.0, lambda: 0.0)):
        pass
    return seen[0].decode()


async def test_what_was_thought_in_a_turn_is_shown_where_the_template_wants_it() -> None:
    assert await prompt_of(RECALLING, "so") == "userhiassistantsohm"
    assert await prompt_of(TEMPLATE, "so") == "user: hi\nassistant: so\n"
    assert await prompt_of(THINKING, "") == "hihm"
    assert await prompt_of(THINKING, "so") == "hiso"  # it would refuse both


@pytest.mark.parametrize(("session", "broken"), [("s1", 1), ("", 0)])
async def test_a_prompt_that_forgets_the_last_one_is_counted(session: str, broken: int) -> None:
    engine = InstantEngine(lambda _: [END], InstantOptions(vocabulary=END + 1))
    chat = EngineChat(engine, ByteTokenizer(), ChatTemplate(TEMPLATE, ()), 512)
    await chat.start()
    await ask(chat, session, "one")
    await ask(chat, session, "one", "two")
    assert chat.stats().prefixes_broken == 0
    await ask(chat, session, "ONE", "two", "three")
    assert chat.stats().prefixes_broken == broken


class CountingTokenizer(ByteTokenizer):
    """Counts how many times somebody came with tokens to read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def decode(self, token_id: int) -> bytes:
        self.read.append(token_id)
        return super().decode(token_id)


@pytest.mark.parametrize(("stop", "whole"), [((), "größe 漢字"), (("e ",), "größ")])
async def test_what_nobody_is_told_of_yet_is_read_later(stop: tuple[str, ...], whole: str) -> None:
    said = [*"größe 漢字".encode(), END]
    engine = InstantEngine(lambda _: said, InstantOptions(vocabulary=END + 1))
    tokenizer = CountingTokenizer()
    chat = EngineChat(engine, tokenizer, ChatTemplate(TEMPLATE, ()), 512)
    await chat.start()
    sampling = Sampling(max_tokens=99, stop=stop)
    question = Question(
        [{"role": "user", "content": "x"}], Held(Demands()), sampling, Owner("r", "acme")
    )
    answer, read = Answer(0.0, lambda: 7.0), []  # a clock that stands still: one window
    pieces = []
    async for piece in chat.pieces(question, answer):
        pieces.append(piece)
        read.append(len(tokenizer.read))
    assert answer.result is not None
    assert pieces == [(0, whole[0]), (1, whole[1:])]
    assert answer.result.content == whole
    assert read == [1, len(said) - 1 if not stop else len("größe ".encode())]
    assert answer.result.finish_reason == "stop"


SWITCH = "{{ messages[0].content }}{{ enable_thinking }}"


@pytest.mark.parametrize(
    ("template", "reasoning", "able"),
    [(SWITCH, "qwen3", True), (TEMPLATE, "qwen3", False), (TEMPLATE, "none", True)],
)
async def test_a_model_that_cannot_but_think_says_so(
    template: str, reasoning: str, able: bool
) -> None:
    prompts: list[bytes] = []

    def script(request: GenerateRequest) -> list[int]:
        prompts.append(bytes(request.prompt))
        return [END]

    engine = InstantEngine(script, InstantOptions(vocabulary=END + 1))
    dialect = Dialect("hermes", reasoning)
    chat = EngineChat(engine, ByteTokenizer(), ChatTemplate(template, ()), 512, dialect=dialect)
    info = await chat.start()
    assert ("unthinking" in info.abilities) == able
    held = Held(Demands(effort="none"))
    question = Question(
        [{"role": "user", "content": "hi"}], held, Sampling(max_tokens=2), Owner("r", "t")
    )
    if able:
        assert await chat.count(question) > 0
        assert [piece async for piece in chat.pieces(question, Answer(0.0, lambda: 0.0))] == []
        assert prompts[0].endswith(b"False" if template == SWITCH else b"hi\n")
        return
    with pytest.raises(Permanent) as caught:
        await chat.count(question)
    assert (caught.value.code, caught.value.field) == ("unsupported_demand", "reasoning_effort")
    with pytest.raises(Permanent, match="always thinks"):
        await anext(chat.pieces(question, Answer(0.0, lambda: 0.0)))
