"""Owns the choice of an engine: a row of the models file becomes a chat model, not yet started.

Knows every kind of model there is; the composition root knows none. An engine's own module is
imported only where a row asks for it: its library need not be there otherwise.
"""

from __future__ import annotations

from pathlib import Path

from services.inference.ports import ChatModel
from shared.models import AnyModel, OpenVinoModel, TensorRtModel


def chat_model(row: AnyModel, cache: Path) -> ChatModel:
    """What the row describes. `cache` is a folder in which an engine may keep what it can make
    again.

    Raises:
        Permanent: what the row names is not there or is of no use.
    """
    match row:
        case OpenVinoModel():
            from services.inference.adapters.model_folder import read_dialect
            from services.inference.adapters.openvino.factory import build_chat
            from services.inference.adapters.openvino.options import (
                EngineOptions,
            )

            options = EngineOptions(max_sequences=row.concurrency, cache_dir=cache)
            folder = Path(row.path)
            dialect = read_dialect(folder, row.parser, row.reasoning)
            return build_chat(folder, options, row.context, dialect)
        case TensorRtModel():
            from services.inference.adapters.trtllm import factory

            return factory.build_chat(row)
