"""A model that does what the last user message tells it to, on the instant engine.

say X        answers X
tools N      asks for N calls of the tool `shout` at once, then answers with their results
steps N      asks for one call after the other, N times
call NAME    asks for one call of the tool NAME
ask NAME: X  asks the agent NAME to do X
"""

from __future__ import annotations

from collections.abc import Sequence

from services.inference.core.chat import ChatTemplate, Segment
from services.inference.handlers import EngineChat, Model
from services.inference.ports import GenerateRequest
from tests.fakes.instant_engine import InstantEngine, InstantOptions

END = 256
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
CONTEXT = 16_384


class ByteTokenizer:
    """One token for each byte."""

    eos_ids = frozenset({END})
    control: frozenset[str] = frozenset()

    def encode(self, prompt: Sequence[Segment], salt: str = "") -> tuple[int, ...]:
        return tuple(b"".join(segment.text.encode() for segment in prompt))

    def decode(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < END else b""

    def label(self, token_id: int) -> str:
        return "<end>" if token_id == END else self.decode(token_id).decode("utf-8", "replace")


def _call(name: str, number: int) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {{"n": {number}}}}}\n</tool_call>'


def answer(prompt: str) -> str:
    """What the model says to a prompt."""
    _, _, turn = prompt.rpartition("user: ")
    order, *lines = turn.splitlines()
    results = [line.removeprefix("tool: ") for line in lines if line.startswith("tool: ")]
    verb, _, rest = order.partition(" ")
    if verb == "tools" and not results:
        return "".join(_call("shout", n) for n in range(int(rest)))
    if verb == "steps" and len(results) < int(rest):
        return _call("shout", len(results))
    if verb == "ask" and not results:
        name, _, text = rest.partition(": ")
        arguments = f'{{"input": "{text}"}}'
        return f'<tool_call>\n{{"name": "ask_{name}", "arguments": {arguments}}}\n</tool_call>'
    if verb == "call" and not results:
        return _call(rest, 0)
    return "got " + " ".join(results) if results else rest


def script(request: GenerateRequest) -> Sequence[int]:
    """The engine's script: the bytes of the answer."""
    return [*answer(bytes(request.prompt).decode()).encode(), END]


def scripted_model(name: str, worker: str, seconds_per_token: float = 0.0, slots: int = 8) -> Model:
    """A loaded model; its engine must be started."""
    options = InstantOptions(
        vocabulary=END + 1,
        context_tokens=CONTEXT,
        kv_blocks=CONTEXT,
        seconds_per_token=seconds_per_token,
    )
    engine = InstantEngine(script, options)
    template = ChatTemplate(TEMPLATE, ())
    chat = EngineChat(engine, ByteTokenizer(), template, CONTEXT)
    return Model(name, worker, chat, slots=slots)
