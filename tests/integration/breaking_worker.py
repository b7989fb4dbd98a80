"""A worker on the embedded engine with a bug in it, `python -m tests.integration.breaking_worker`.

The engine breaks in the next step when there is a file `bug` in its data folder, and hangs in it
when that says `hang`. Unless it says `for ever` the file is gone then, and the bug shows once. With
`load` in it the weights never come to be loaded, and the file goes as soon as that has begun. All
the rest is the product's own.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.inference.__main__ import serve
from services.inference.adapters.openvino.batch import StepBatch
from services.inference.adapters.openvino.engine import OpenVinoEngine
from services.inference.adapters.openvino.factory import build_chat
from services.inference.adapters.openvino.grammar import AnswerConstraint
from services.inference.adapters.openvino.model import PagedModel, StepModel
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.settings import Settings
from shared.bus.connect import Bus
from shared.bus.service import run_service
from shared.models import OpenVinoModel
from tests.contract.engines.fallible import FallibleModel

OPTIONS = EngineOptions(kv_blocks=64, step_limit_s=2.0, close_limit_s=1.0)


class Buggy(FallibleModel):
    """A real model, and a bug where a file says so."""

    def __init__(self, model: StepModel, bug: Path) -> None:
        super().__init__(model)
        self._bug = bug

    def infer(self, batch: StepBatch) -> NDArray[np.float32]:
        bug = self._bug.read_text() if self._bug.exists() else None
        if bug not in (None, "for ever"):
            self._bug.unlink()
        if bug == "hang":
            threading.Event().wait()
        self.buggy = bug is not None
        return super().infer(batch)


def main() -> None:
    settings = Settings()
    row = OpenVinoModel(path=str(settings.data / "tiny"), context=1024)
    folder, bug = Path(row.path), settings.data / "bug"

    def load() -> StepModel:
        if bug.exists() and bug.read_text() == "load":
            bug.unlink()
            threading.Event().wait()
        return Buggy(PagedModel(folder, OPTIONS), bug)

    async def compose(bus: Bus, stop: asyncio.Event) -> None:
        chat, tokenizer = build_chat(folder, OPTIONS, row.context), FolderTokenizer(folder)
        chat.engine = OpenVinoEngine(
            load,
            partial(AnswerConstraint, tokenizer.vendor, tokenizer.vocabulary),
            OPTIONS,
        )
        await serve(bus, stop, settings, row, chat)

    run_service("inference", settings, compose)


if __name__ == "__main__":
    main()
