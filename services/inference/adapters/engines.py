"""Owns the choice of an engine: a row of the models file becomes a chat model, not yet started.

Knows every kind of model there is; the composition root knows none. An engine's own module is
imported only where a row asks for it: its library need not be there otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from services.inference.core.chat import TemplateFailed
from services.inference.ports import ChatModel
from shared.errors import Permanent
from shared.models import AnyModel, OpenVinoModel, ProviderModel, TensorRtModel


def chat_model(row: AnyModel, cache: Path, variables: Callable[[str], str | None]) -> ChatModel:
    """What the row describes. `cache` is a folder in which an engine may keep what it can make
    again; `variables` gives the value of an environment variable that holds a key. May take long,
    where a model has to be fetched: call it off the event loop.

    Raises:
        Permanent: what the row names is not there or is of no use.
        Transient: `hub_unreachable`.
    """
    try:
        return _chat_model(row, cache, variables)
    except TemplateFailed as error:
        raise Permanent("unsupported_model", str(error), field="path") from error


def _chat_model(row: AnyModel, cache: Path, variables: Callable[[str], str | None]) -> ChatModel:
    match row:
        case OpenVinoModel():
            from services.inference.adapters.model_folder import find_folder, read_dialect
            from services.inference.adapters.openvino.factory import build_chat
            from services.inference.adapters.openvino.options import (
                EngineOptions,
            )

            options = EngineOptions(max_sequences=row.concurrency, cache_dir=cache)
            folder = find_folder(row.path, cache)
            dialect = read_dialect(folder, row.parser, row.reasoning)
            return build_chat(folder, options, row.context, dialect)
        case ProviderModel():
            from services.inference.adapters.provider.factory import build_provider

            return build_provider(row, variables)
        case TensorRtModel():
            from services.inference.adapters.model_folder import find_folder
            from services.inference.adapters.trtllm import factory

            return factory.build_chat(replace(row, path=str(find_folder(row.path, cache))))
