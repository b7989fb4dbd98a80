"""The models file: which models exist, what they cost, and which routes lead to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
import yaml

from shared.errors import Permanent

MICRO_CENT = 100 * 1_000_000
"""Millionths of a cent in one unit of money."""


AUTO, NONE = "auto", "none"
PARSERS = (
    AUTO,
    NONE,
    "hermes",
    "qwen3_coder",
    "llama3_json",
    "llama4_json",
    "pythonic",
    "llama4_pythonic",
    "mistral",
    "deepseek_v3",
    "deepseek_v31",
    "openai",
)
"""How a model writes calls; `auto` finds it in the chat template."""
REASONING = (AUTO, NONE, "qwen3", "deepseek_r1", "mistral", "openai_gptoss")
"""How a model sets its reasoning apart."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_KEY_HEADERS = frozenset(("authorization", "proxy-authorization", "x-api-key", "api-key"))
_OURS = frozenset(("model", "messages", "stream", "system", "tools", "input"))
"""What of a request's body no row of the file may set."""
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money per million tokens, as text so that no digit is lost."""

    input: str = "0"
    output: str = "0"
    cached_input: str | None = None
    """Of the input that a prefix cache held; absent: as any input."""


class ModelRow(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="engine"
):
    """What every model says, whatever runs it."""

    context: AtLeastOne = 4096
    concurrency: AtLeastOne = 8
    prices: Prices = Prices()

    @property
    def embeds(self) -> bool:
        """Whether it gives vectors, and nothing else."""
        return False

    @property
    def engine(self) -> str:
        """The name of the engine in the file."""
        return str(self.__struct_config__.tag)


class TokenModel(ModelRow, frozen=True, kw_only=True):
    """A model of which we see tokens: what they mean is ours to read."""

    parser: str = AUTO
    reasoning: str = AUTO


class OpenVinoModel(TokenModel, frozen=True, kw_only=True, tag="openvino"):
    """A model folder on the embedded CPU engine."""

    path: str
    """Where it is; where there is no such folder, what a hub calls it (see `hub_name`)."""


Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Adapter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A LoRA adapter that every request of the model uses."""

    path: str
    name: str = "adapter"
    rank: AtLeastOne = 64
    """Not below the adapter's own."""


class TensorRtModel(TokenModel, frozen=True, kw_only=True, tag="tensorrt_llm"):
    """A model folder on GPUs, through TensorRT-LLM."""

    path: str
    tensor_parallel: AtLeastOne = 1
    pipeline_parallel: AtLeastOne = 1
    expert_parallel: AtLeastOne | None = None
    batch_tokens: AtLeastOne = 8192
    """Tokens that one step computes at most."""
    kv_memory: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.85
    """The part of the memory behind the weights that the cache gets."""
    block_tokens: AtLeastOne = 32
    host_cache_gib: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Main memory for blocks that the GPU has no room for."""
    kv_dtype: Literal["auto", "fp8"] = "auto"
    kv_events: AtLeastOne = 16_384
    """Changes of the cache that the engine keeps until they are read."""
    guided: Literal["xgrammar", "llguidance", "none"] = "xgrammar"
    """What holds answers to schemas and tools; `none`: such requests are refused."""
    lora: Adapter | None = None
    load_s: Seconds = 1800.0
    silence_s: Seconds = 120.0
    """How long an engine that has work may say nothing before it counts as dead."""
    options: dict[str, object] = {}
    """Further arguments of the library's `LLM`, checked against those that it has."""


Api = Literal["openai", "anthropic"]
Lack = Literal[
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "dimensions",
]
"""What an endpoint may be without, by the name that it has in a request."""

OFFICIAL_KEYS: dict[Api, str] = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""Where a key is looked for when a row names no endpoint of its own."""


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds to wait for an endpoint: for a connection, the first word, and each one after it."""

    connect: Seconds = 10.0
    first_token: Seconds = 120.0
    between_tokens: Seconds = 60.0


class ProviderModel(ModelRow, frozen=True, kw_only=True, tag="provider"):
    """A model behind somebody's endpoint. A key itself never stands here, only where it is."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    """What the model is called there."""
    api: Api = "openai"
    base_url: str | None = None
    """Absent: the provider's own."""
    key: Annotated[str, msgspec.Meta(pattern="^[A-Z_][A-Z0-9_]*$")] | None = None
    """The name of an environment variable; `key_file` is a file with nothing but the key."""
    key_file: str | None = None
    headers: dict[str, str] = {}
    timeouts: Timeouts = Timeouts()
    max_output: AtLeastOne | None = None
    """Tokens that an answer may have there at most."""
    limit_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """What `api: openai` calls that bound; absent: as OpenAI does at its own, else `max_tokens`."""
    lacks: frozenset[Lack] | None = None
    thinking: Literal["effort", "template", "none"] = "effort"
    """How the endpoint is told how much to think: by OpenAI's `reasoning_effort` (Anthropic's
    `thinking` where `api` is that), by the template's `enable_thinking`, as vLLM and SGLang have
    it, or not at all."""
    extra_body: dict[str, object] = {}
    """Goes into every request as it is."""
    embeddings: bool = False
    """It gives vectors, and nothing else; the four below are about such a model."""
    dimensions: AtLeastOne | None = None
    """Numbers in a vector, where a request asks for no other number: others are refused."""
    batch: Annotated[int, msgspec.Meta(ge=1, le=2048)] = 128
    """Inputs that one request to the endpoint has at most."""
    batch_tokens: AtLeastOne = 250_000
    """Tokens that they have together at most; those of a text are estimated."""
    space: str | None = None
    """Names what its vectors may be compared with; absent: `name`."""

    @property
    def embeds(self) -> bool:
        """See `ModelRow`."""
        return self.embeddings

    @property
    def key_variable(self) -> str | None:
        """The variable that holds the key, None where there is none.

        Another endpoint than the provider's own never gets the provider's key unasked.
        """
        if self.key_file is not None:
            return None
        own = OFFICIAL_KEYS[self.api] if self.base_url is None else None
        return self.key or own

    @property
    def without(self) -> frozenset[Lack]:
        """What the endpoint does not have. Anthropic's own takes no sampling parameters."""
        if self.lacks is not None or self.api == "openai" or self.base_url is not None:
            return self.lacks or frozenset()
        return frozenset(("temperature", "top_p", "top_k"))


AnyModel = OpenVinoModel | TensorRtModel | ProviderModel
"""The kinds of models that there are; `engine` tells which one a row is."""


class ModelsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as a whole."""

    models: dict[str, AnyModel]
    routes: dict[str, tuple[str, ...]]
    embeddings: dict[str, Prices] = {}
    """What embedding models cost, by their names; only `input` counts."""
    currency: str = "USD"
    """What the prices are in; a name to show, nothing is converted."""

    def embeds(self, name: str) -> bool:
        """Whether this is an embedding model, or a route to some."""
        first = self.routes.get(name, (name,))[:1]
        return any(one in self.models and self.models[one].embeds for one in first)

    def candidates(self, route: str) -> tuple[str, ...]:
        """The models of a route in order; the name of a model is a route to it alone.

        Raises:
            Permanent: `unknown_route`.
        """
        if route in self.routes:
            return self.routes[route]
        if route in self.models:
            return (route,)
        raise Permanent(
            "unknown_route",
            f"there is no route or model {route!r}; known are "
            + ", ".join(sorted({*self.routes, *self.models})),
            field="route",
        )


def hub_name(path: str) -> tuple[str, str | None] | None:
    """Name and revision that a path means on a model hub: `owner/name`, `owner/name@revision`.

    None where it can be no such name.
    """
    name, at, revision = path.partition("@")
    if _HUB_NAME.fullmatch(name) is None or (at and not revision):
        return None
    return name, revision or None


def micro_cents(amount: str) -> int:
    """A decimal amount of money as an integer number of millionths of a cent.

    Raises:
        Permanent: `invalid_models_file`.
    """
    try:
        found = int((Decimal(amount) * MICRO_CENT).to_integral_value())
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise Permanent("invalid_models_file", f"{amount!r} is no amount of money") from error
    if found < 0:
        raise Permanent("invalid_models_file", f"{amount!r} is no price: it is below zero")
    return found


def cost(*lines: tuple[int, int]) -> int:
    """What a call costs: `(tokens, millionths of a cent per million)` for each kind of token.

    Exact until the end and rounded once, half to even: many small calls add up without a drift.
    """
    whole, rest = divmod(sum(tokens * price for tokens, price in lines), 1_000_000)
    return whole + (rest > 500_000 or (rest == 500_000 and whole % 2 == 1))


def amount(price: int) -> str:
    """Millionths of a cent as a decimal number of the models file's currency, no digit lost."""
    sign, (units, rest) = "-" * (price < 0), divmod(abs(price), MICRO_CENT)
    digits = f"{rest:08d}".rstrip("0")
    return f"{sign}{units}.{digits:0<2}"


def read_models(path: Path) -> ModelsFile:
    """Read and check the models file.

    Raises:
        Permanent: `invalid_models_file`, saying what is wrong and where.
    """
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = msgspec.convert(body, ModelsFile)
    except OSError as error:
        raise Permanent("invalid_models_file", f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise Permanent("invalid_models_file", f"{path.name}: {error}") from error
    _check_routes(found, path.name)
    _check(*(row.prices for row in found.models.values()), *found.embeddings.values())
    for name, row in found.models.items():
        _check_formats(f"{path.name}: model {name!r}", name, row)
        if isinstance(row, ProviderModel):
            _check_provider(row, f"models.{name}")
    return found


def _check_routes(found: ModelsFile, file: str) -> None:
    for route, models in found.routes.items():
        if not models:
            raise Permanent(
                "invalid_models_file",
                f"{file}: route {route!r} names no model",
                field=f"routes.{route}",
            )
        for model in models:
            if model not in found.models:
                raise Permanent(
                    "invalid_models_file",
                    f"{file}: route {route!r} names model {model!r}, which is not there",
                    field=f"routes.{route}",
                )
        _check_kinds(f"routes.{route}", [found.models[model] for model in models])


def _check_kinds(where: str, rows: Sequence[ModelRow]) -> None:
    """Vectors of different models have nothing to do with each other: an index that is made of
    both finds nonsense, and nobody is told."""
    if len({row.embeds for row in rows}) > 1:
        raise _invalid(where, "an embedding model and another one cannot stand for each other")
    spaces = {
        row.space or row.name for row in rows if isinstance(row, ProviderModel) and row.embeds
    }
    if len(spaces) > 1:
        detail = "vectors of different models cannot be compared; rows of the same model under "
        raise _invalid(where, detail + f"different names say so by `space` ({sorted(spaces)})")


def _check_provider(row: ProviderModel, where: str) -> None:
    """Nothing of a wrong value is repeated: it may be a key."""
    if row.key is not None and row.key_file is not None:
        raise _invalid(f"{where}.key_file", "give key or key_file, not both")
    if row.base_url is not None:
        url = urlsplit(row.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise _invalid(f"{where}.base_url", "it must be an http:// or https:// address")
        if "@" in url.netloc or url.query:
            detail = "a user, password or query does not belong here: name a key or headers"
            raise _invalid(f"{where}.base_url", detail)
    _check_embeddings(row, where)
    for header in row.headers:
        if header.lower() in _KEY_HEADERS:
            detail = "a key does not belong into this file: use key or key_file"
            raise _invalid(f"{where}.headers.{header}", detail)
    for field in _OURS & row.extra_body.keys():
        raise _invalid(f"{where}.extra_body.{field}", "this is decided by each request")


def _check_embeddings(row: ProviderModel, where: str) -> None:
    if row.embeds and row.api == "anthropic":
        raise _invalid(f"{where}.embeddings", "Anthropic has no embedding models")
    if not row.embeds and (row.dimensions, row.space) != (None, None):
        raise _invalid(f"{where}.embeddings", "dimensions and space are of embedding models only")


def _invalid(field: str, detail: str) -> Permanent:
    return Permanent("invalid_models_file", f"{field}: {detail}", field=field)


def _check_formats(where: str, name: str, row: ModelRow) -> None:
    if not isinstance(row, TokenModel):
        return
    for field, value, known in (
        ("parser", row.parser, PARSERS),
        ("reasoning", row.reasoning, REASONING),
    ):
        if value not in known:
            raise Permanent(
                "unknown_parser",
                f"{where} has {field} {value!r}; known are {', '.join(known)}",
                field=f"models.{name}.{field}",
            )


def _check(*each: Prices) -> None:
    for prices in each:
        for price in (prices.input, prices.output, prices.cached_input):
            micro_cents("0" if price is None else price)
