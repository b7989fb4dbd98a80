"""Owns the putting together of a local model: engine, tokenizer and chat template of one folder.

Must not know the bus or settings; the composition root calls it for `engine: openvino`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from services.inference.adapters.model_folder import read_chat_template
from services.inference.adapters.openvino.engine import OpenVinoEngine
from services.inference.adapters.openvino.grammar import AnswerConstraint
from services.inference.adapters.openvino.model import PagedModel
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.core.chat import ChatTemplate
from services.inference.ports import Engine, Tokenizer


class LocalModel(msgspec.Struct, frozen=True):
    """Everything a worker needs of one model folder; the engine is not started."""

    engine: Engine
    tokenizer: Tokenizer
    template: ChatTemplate


def build_engine(folder: Path, options: EngineOptions | None = None) -> LocalModel:
    """Read the folder's tokenizer and template now, its weights when the engine starts."""
    chosen = options or EngineOptions()
    tokenizer = FolderTokenizer(folder)
    return LocalModel(
        engine=OpenVinoEngine(
            load=partial(PagedModel, folder, chosen),
            compile_constraint=partial(AnswerConstraint, tokenizer.vendor, tokenizer.vocabulary),
            options=chosen,
        ),
        tokenizer=tokenizer,
        template=read_chat_template(folder, tokenizer.control),
    )
