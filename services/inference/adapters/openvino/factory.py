"""Owns the putting together of a local model: engine, tokenizer and chat template of one folder.

Must not know the bus or settings; the composition root calls it for `engine: openvino`.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from services.inference.adapters.model_folder import read_chat_template, read_dialect
from services.inference.adapters.openvino.engine import OpenVinoEngine
from services.inference.adapters.openvino.grammar import AnswerConstraint
from services.inference.adapters.openvino.model import PagedModel
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.core.dialect import Dialect
from services.inference.handlers import EngineChat

ANY = sys.maxsize
"""A bound that is none: the engine's own."""


def build_chat(
    folder: Path,
    options: EngineOptions | None = None,
    context: int = ANY,
    dialect: Dialect | None = None,
) -> EngineChat:
    """Read the folder's tokenizer and template now, its weights when the engine starts.

    `context` bounds prompt and answer together, in tokens; without a `dialect` the folder tells.
    """
    chosen = options or EngineOptions()
    spoken = dialect or read_dialect(folder)
    tokenizer = FolderTokenizer(folder, spoken.marks)
    return EngineChat(
        engine=OpenVinoEngine(
            load=partial(PagedModel, folder, chosen),
            compile_constraint=partial(AnswerConstraint, tokenizer.vendor, tokenizer.vocabulary),
            options=chosen,
        ),
        tokenizer=tokenizer,
        template=read_chat_template(folder, tokenizer.control),
        context=context,
        dialect=spoken,
    )
