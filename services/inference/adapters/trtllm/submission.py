"""Owns the giving of a request to the engine: parameters, salt, retention, adapter.

Keywords that not every 1.2 has are looked for first. What the library refuses at once is the
request's fault, whatever of its four kinds of errors it chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from services.inference.adapters.trtllm import names
from services.inference.adapters.trtllm.aside import attempted, translated, words_of
from services.inference.adapters.trtllm.library import Library, Llm, Result, retained
from services.inference.adapters.trtllm.sampling import sampling_fields
from services.inference.ports import (
    EngineFailed,
    EngineUnavailable,
    GenerateRequest,
    InvalidRequest,
    Keep,
)
from shared.errors import Permanent
from shared.models import TensorRtModel

_WORTH: dict[Keep, tuple[int, float]] = {"short": (5, 30.0), "long": (80, 900.0)}
"""How much blocks are worth, of 0 to 100, and for how many seconds; the engine's own is 35.

A tool that runs is back within minutes; after that the prompt is worth what any other is. Nothing
of 1.2 lets go of a prefix, or changes what it is worth, once it is there: no method of `LLM`, no
field of a request (`trtllm_signatures.json`). So this engine is no `Forgets`: the end of a session
is carried by the duration alone."""


class Submission:
    """One engine, as requests are given to it."""

    def __init__(
        self, library: Library, llm: Llm, vocabulary: int, adapter: object | None = None
    ) -> None:
        self._library, self._llm, self._vocabulary = library, llm, vocabulary
        self._adapter = adapter
        self.eos: int | None = getattr(llm.tokenizer, "eos_token_id", None)
        # their arguments are known from examples only: made once, or not at all
        self._retained = {
            keep: attempted(partial(retained, library, *worth)) for keep, worth in _WORTH.items()
        }

    def submit(self, request: GenerateRequest, guided: Mapping[str, object] | None) -> Result:
        """Give it to the engine.

        Raises:
            InvalidRequest: the library refuses it.
            EngineUnavailable: the engine is on its way out.
            EngineBroken: anything else.
        """
        return translated(lambda: self._submit(request, guided), self._refused)

    def failed(self, error: Exception) -> Exception | None:
        """What the library raises when it gives up one request, and only that."""
        return EngineFailed(words_of(error)) if self._is_of_request(error) else None

    def _submit(self, request: GenerateRequest, guided: Mapping[str, object] | None) -> Result:
        fields = sampling_fields(request, self.eos, self._vocabulary)
        if guided is not None:
            fields["guided_decoding"] = self._library.guided_params(**guided)
        keywords: dict[str, object] = {
            "inputs": list(request.prompt),
            "sampling_params": self._library.sampling_params(**fields),
            "streaming": True,
        }
        if request.cache_salt:
            keywords[names.SALT] = request.cache_salt
        optional = {
            "lora_request": self._adapter,
            "kv_cache_retention_config": self._retained.get(request.keep),
        }
        keywords |= {
            name: value
            for name, value in optional.items()
            if value is not None and name in self._library.keywords
        }
        return self._llm.generate_async(**keywords)

    def _refused(self, error: Exception) -> Exception | None:
        if self._is_of_request(error) or isinstance(
            error, ValueError | TypeError | NotImplementedError
        ):
            return InvalidRequest(words_of(error))
        if isinstance(error, RuntimeError) and "shutting down" in str(error):
            return EngineUnavailable("the engine is shutting down")
        return None

    def _is_of_request(self, error: Exception) -> bool:
        return isinstance(error, self._library.request_error)


def adapter_of(library: Library, row: TensorRtModel) -> object | None:
    """What goes with every request of a row with an adapter.

    Raises:
        Permanent: `engine_not_loaded`, `engine_mismatch`; the field is `lora`.
    """
    return translated(lambda: _adapter(library, row), _not_loaded)


def _not_loaded(error: Exception) -> Exception:
    return Permanent("engine_not_loaded", f"the adapter: {words_of(error)}", field="lora")


def _adapter(library: Library, row: TensorRtModel) -> object | None:
    if row.lora is None:
        return None
    if library.lora_request is None or "lora_request" not in library.keywords:
        detail = f"tensorrt_llm {library.version} takes no adapter with a request"
        raise Permanent("engine_mismatch", detail, field="lora")
    return library.lora_request(lora_name=row.lora.name, lora_int_id=1, lora_path=row.lora.path)
