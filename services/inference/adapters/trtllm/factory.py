"""Owns the putting together of a TensorRT-LLM model: engine, tokenizer and template of one folder.

Must not know the bus or settings; the choice of an engine calls it for `engine: tensorrt_llm`.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from services.inference.adapters.model_folder import (
    read_chat_template,
    read_config,
    read_dialect,
)
from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.adapters.trtllm.engine import TensorRtEngine
from services.inference.adapters.trtllm.guided import guided_fields
from services.inference.adapters.trtllm.setup import Setup
from services.inference.handlers import EngineChat
from shared.models import TensorRtModel


def build_chat(row: TensorRtModel) -> EngineChat:
    """Read the folder's tokenizer and template now; the engine is built when it starts.

    Raises:
        TemplateFailed: the folder has no template, or none that can be read.
    """
    folder = Path(row.path)
    dialect = read_dialect(folder, row.parser, row.reasoning)
    tokenizer = FolderTokenizer(folder, dialect.marks)
    return EngineChat(
        engine=TensorRtEngine(_setup(row, folder, tokenizer)),
        tokenizer=tokenizer,
        template=read_chat_template(folder, tokenizer.control),
        context=row.context,
        dialect=dialect,
    )


def _setup(row: TensorRtModel, folder: Path, tokenizer: FolderTokenizer) -> Setup:
    config = read_config(folder)
    return Setup(
        row=row,
        guide=partial(guided_fields, row.guided, tokenizer),
        model=folder.name,
        vocabulary=tokenizer.vocabulary,
        context=int(config.get("max_position_embeddings") or row.context),
        digest=hashlib.blake2b((folder / "config.json").read_bytes(), digest_size=8).hexdigest(),
    )
