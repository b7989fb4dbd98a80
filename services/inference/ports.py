"""What inference needs from outside: an engine and a tokenizer, with the guarantees they give.

Everything above tokens (templates, text, stop strings, tool calls) lives above this border, once,
in `core`. Must not know any engine, framework or transport. Every engine and every model passes
the same suites, `tests/contract/engines/`; the sentences below are what they check.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec

from services.inference.core.answering import Answer, Piece, Question, Told
from services.inference.core.blocks import PrefixReport
from services.inference.core.chat import Segment
from services.inference.core.demands import Constraint
from services.inference.core.embedding import Bounds
from services.inference.core.generation import EngineFinish, TokenUsage
from shared.contracts.agents import Priority, ToolSpec
from shared.contracts.embeddings import EmbeddingInput
from shared.contracts.work import RouteStep
from shared.errors import Broken, Permanent, Transient


class ContextTooLong(Permanent):
    """Prompt and answer together do not fit the model's context or the engine's memory.

    `place` is that of an input of an embedding, where an endpoint has named it.
    """

    def __init__(self, detail: str, place: int | None = None) -> None:
        super().__init__("context_too_long", detail, field="messages")
        self.place = place


class InputTooLong(Permanent):
    """One of the inputs of an embedding does not fit the model's context.

    `place` is its place among them. Somebody's endpoint may not say which one it is: then it is
    the longest.
    """

    def __init__(self, detail: str, place: int) -> None:
        super().__init__("context_too_long", detail, field=f"input.{place}")
        self.place = place


class InvalidRequest(Permanent):
    """A request no engine could serve: empty prompt, token id out of range, bad grammar."""

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__("invalid_request", detail, field=field)


class UnsupportedDemand(Permanent):
    """The engine cannot do what the request asks for; another engine may."""

    def __init__(self, detail: str, field: str) -> None:
        super().__init__("unsupported_demand", detail, field=field)


class EngineFailed(Transient):
    """A step of the engine failed; only the requests of that step are lost and may be retried.

    An endpoint says more: `provider_unavailable`, `provider_rate_limited`, and when to come back.
    """

    def __init__(
        self, detail: str, code: str = "engine_failed", retry_after: float | None = None
    ) -> None:
        super().__init__(code, detail, retry_after=retry_after)


class EngineUnavailable(Transient):
    """The engine is not started, or closed: another worker can serve this."""

    def __init__(self, detail: str) -> None:
        super().__init__("engine_unavailable", detail)


class EngineBroken(Broken):
    """The engine can serve nothing more (a bug, a dead device, a step without end).

    Only a new process mends that: the worker lets go of its work, ends, and is started again.
    """

    def __init__(self, detail: str) -> None:
        super().__init__("engine_broken", detail)


class EndpointRefused(Broken):
    """Somebody's endpoint lets this worker do nothing: its key, its account, the model's name.

    A person has to mend that; until then the worker asks for no work.
    """

    def __init__(self, detail: str) -> None:
        super().__init__("endpoint_refused", detail)


Ability = Literal["constraint", "logprobs", "penalties", "unthinking", "embeddings"]
"""What not every engine can do; `penalties` stands for the bias of single tokens, too. That a model
answers without thinking is no matter of the engine: whoever knows its template adds `unthinking`.
Who has `embeddings` answers in vectors (see `Embeds`), and no chat.
"""
ABILITIES: frozenset[Ability] = frozenset(("constraint", "logprobs", "penalties"))
"""All that an engine of text can do."""


Keep = Literal["short", "usual", "long"]
"""How long the keys and values of a prompt are worth their memory: nobody comes back to it; as any
other; a tool is running, and the same prompt comes back with its result."""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen. Temperature 0 is greedy; `top_k` 0 means all.

    A token that the answer has n times already loses n times the frequency penalty and once the
    presence penalty; `logit_bias` is added to the tokens it names. Both come before temperature.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    @property
    def weighs(self) -> bool:
        """Whether logits are changed at all."""
        return bool(self.frequency_penalty or self.presence_penalty or self.logit_bias)


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One generation. `request_id` is unique among those in flight on one engine.

    `cache_salt` separates prefix caches: two requests share cached blocks only under the same salt,
    so a tenant cannot learn by timing what another one asked. `constraint` is what the answer may
    be (a JSON value is compact); `logprobs` asks for the log-probability of each token and that
    many alternatives, None for neither.

    `lineage` names the prompts that begin with each other and whose end somebody tells.

    `priority`, `keep` and `lineage` are hints: they change when a request is served and what is
    cached, never a token, and an engine may ignore them.
    """

    request_id: str
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    stop_token_ids: frozenset[int] = frozenset()
    constraint: Constraint | None = None
    logprobs: int | None = None
    cache_salt: str = ""
    priority: Priority = "interactive"
    keep: Keep = "usual"
    lineage: str = ""


class TokenLogprob(msgspec.Struct, frozen=True):
    """Log-probability of the chosen token before temperature and masks, and the best ones."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class EngineFinished(msgspec.Struct, frozen=True):
    """Why a generation ended, and what it cost."""

    reason: EngineFinish
    usage: TokenUsage


class EngineChunk(msgspec.Struct, frozen=True):
    """The next tokens; `finished` is set on the last chunk only. A stop token is never shown."""

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finished: EngineFinished | None = None


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a started engine can do. `block_tokens` is the granularity of its prefix cache.

    `fingerprint` names everything that its tokens depend on beside the request.
    """

    model: str
    context_tokens: int
    vocabulary: int
    capacity: int
    kv_blocks: int
    block_tokens: int
    abilities: frozenset[Ability] = ABILITIES
    fingerprint: str = ""
    dimensions: int = 0
    """Numbers in a vector of a model with the ability `embeddings`; 0: not known before it gives
    one. `bounds` is how much it takes at a time."""
    bounds: Bounds = Bounds()


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot. `capacity` is how many requests can run at once; `blocks_cached` are reusable.

    Of `prompt_tokens` that were asked for since the start, `cached_tokens` were in the prefix
    cache: what fraction that is says how well work comes back to where it was before.
    """

    running: int
    waiting: int
    capacity: int
    blocks_total: int
    blocks_free: int
    blocks_cached: int
    tokens_generated: int
    out: str = ""
    """Why nothing is served at the moment, where that is so: an endpoint that refuses us."""
    prefixes_broken: int = 0
    """Prompts that did not begin with the last one of their session."""
    prompt_tokens: int = 0
    cached_tokens: int = 0


class Engine(Protocol):
    """One model in memory. All methods are called on the event loop that called `start`.

    No method blocks that loop: computing happens elsewhere.
    """

    async def start(self) -> EngineInfo:
        """Return when the engine is ready: weights loaded and the first slow step done.

        Raises what loading raised; `close` must then still be called, and is harmless.
        """
        ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[EngineChunk]:
        """Yield chunks, then exactly one chunk with `finished`, and nothing after it.

        The request joins those already running. Its tokens do not depend on its neighbours.
        Raises on the first step: `ContextTooLong` or `InvalidRequest` for a request that cannot be
        served, `UnsupportedDemand` for one that takes an ability the engine does not have,
        `EngineUnavailable` outside start and close; at any step `EngineFailed` or `EngineBroken`.
        None of these affects another request. Closing the iterator early aborts the request.
        """
        ...

    async def abort(self, request_id: str) -> None:
        """Ask for the end of a request: it ends with `aborted`, its slot is free by the next step.

        Idempotent; an unknown or finished id is harmless.
        """
        ...

    def stats(self) -> EngineStats:
        """The latest snapshot; cheap, and safe at any time."""
        ...

    def health(self) -> EngineBroken | EngineUnavailable | None:
        """What keeps the engine from serving, None where it is well; cheap, safe at any time.

        `EngineBroken` stays: whoever sees it once ends the process. An engine whose steps do not
        end is broken, too.
        """
        ...

    async def close(self) -> None:
        """Abort what runs, free the model. Idempotent, also without or after a failed `start`.

        Bounded: an engine that does not come to an end is left behind for the process to end.
        """
        ...


@runtime_checkable
class TellsPrefixes(Protocol):
    """An engine that knows which prefix blocks it holds; not every one does."""

    def prefixes(self) -> PrefixReport:
        """What is known now; cheap, and safe at any time."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """An engine that can let go of a prefix before its memory is needed; not every one can."""

    def forget(self, lineage: str) -> None:
        """Nobody comes back to the prompts of a lineage: what only they have used may go.

        Cheap, at any time; a lineage that is not known is harmless, and so is one that goes on.
        """
        ...


class Embedded(msgspec.Struct, frozen=True):
    """One vector for each input, in their order (packed, see `shared.contracts.embeddings`), and
    how many tokens were read for it; 0 where nobody said."""

    vectors: tuple[str, ...]
    tokens: int


@runtime_checkable
class Embeds(Protocol):
    """A model that gives vectors; not every one does (ability `embeddings`)."""

    async def embed(self, request: str, wanted: EmbeddingInput) -> Embedded | None:
        """The vectors, all of the same length: that which was asked for, where one was.

        Not more inputs than `EngineInfo.bounds` has. None where the request was aborted meanwhile
        (`ChatModel.abort`): nothing is known then of what it cost. No other request is affected
        by one that fails.

        Raises:
            Permanent: `unsupported_demand` where the model gives no vectors, or none of that
                length; `context_too_long` (`InputTooLong`), `invalid_request`.
            Transient: `engine_failed`, `engine_unavailable`, or what an endpoint answered.
            Broken: `endpoint_refused`.
        """
        ...


class ChatModel(Protocol):
    """A model that is asked in messages and answers in text and calls.

    Made of an `Engine` (`handlers.EngineChat`: template, tokens, stop strings, call parsing), or
    somebody's endpoint that does all of this at its side. What is told is the same.
    """

    async def start(self) -> EngineInfo:
        """As `Engine.start`."""
        ...

    def pieces(self, question: Question, answer: Answer) -> AsyncGenerator[Piece]:
        """Yield coalesced text with its index, reasoning, whole calls; fill in `answer` to its end.

        `answer.result` and `answer.usage` are set when the iterator is exhausted; a result that
        was aborted says so. Closing the iterator early aborts the generation.

        Raises:
            Permanent: `context_too_long`, `invalid_request`, `unsupported_demand`, with the name
                that the field has in the request.
            Transient: `engine_failed`, `engine_unavailable`, or what an endpoint answered.
            Broken: `engine_broken`, `endpoint_refused`.
        """
        ...

    async def count(self, question: Question) -> int:
        """How many tokens the prompt has.

        Raises:
            Permanent: `invalid_request`; `unsupported_demand` where nobody can tell.
        """
        ...

    async def abort(self, request: str) -> None:
        """As `Engine.abort`; `request` is the owner's."""
        ...

    def stats(self) -> EngineStats:
        """As `Engine.stats`."""
        ...

    def prefixes(self) -> PrefixReport | None:
        """As `TellsPrefixes.prefixes`; None where nobody can tell."""
        ...

    def forget(self, tenant: str, session: str) -> None:
        """Nobody comes back to a session: what is kept for it may go. A hint, as `Forgets`."""
        ...

    def health(self) -> EngineBroken | EngineUnavailable | None:
        """As `Engine.health`. An endpoint that does not answer is not broken: it may come back."""
        ...

    async def close(self) -> None:
        """As `Engine.close`."""
        ...


class Tokenizer(Protocol):
    """The model's vocabulary."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    @property
    def control(self) -> frozenset[str]:
        """Texts of all added tokens: what must not be recognised in somebody's content."""
        ...

    def encode(self, prompt: Sequence[Segment], salt: str = "") -> tuple[int, ...]:
        """Token ids of a prompt; in a literal segment no added token is ever produced.

        What was read before may be remembered under the same `salt`, and only there.
        """
        ...

    def decode(self, token_id: int) -> bytes:
        """The bytes a reader sees of one token: nothing for control tokens, tool tags kept."""
        ...

    def label(self, token_id: int) -> str:
        """How a token is written where tokens are listed, control tokens too."""
        ...


class View(msgspec.Struct, frozen=True):
    """A conversation as a step has to see it. `settled`: the log says that nobody waits for it.

    `thoughts` is what the model thought in the turn that goes on, by the place of the message.
    """

    messages: tuple[dict[str, object], ...]
    settled: bool = False
    thoughts: dict[int, str] = {}


class Conversations(Protocol):
    """The transcripts of sessions."""

    async def view(self, route: RouteStep, *, repeated: bool = False) -> View:
        """The balanced messages up to the step's log position, not beyond.

        `repeated` asks whether somebody has answered the step meanwhile: the log is read for it.

        Raises `Transient` when the log cannot be reached.
        """
        ...


class ToolShelf(Protocol):
    """The tools that exist."""

    def specs(self, names: Sequence[str]) -> Sequence[ToolSpec]:
        """Their definitions in the order asked for; an unknown name is left out."""
        ...


class TokenSink(Protocol):
    """Where deltas go. They may be lost: the fact brings the text again."""

    async def delta(self, route: RouteStep, attempt: int, told: Told) -> None:
        """Send one delta without waiting for anybody; never raises."""
        ...
