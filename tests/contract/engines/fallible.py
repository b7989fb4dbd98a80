"""A real model on the embedded engine that goes wrong when it is told to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.inference.adapters.openvino.batch import StepBatch
from services.inference.adapters.openvino.model import PagedModel, StepModel
from services.inference.adapters.openvino.options import EngineOptions


class FallibleModel:
    """A real model whose next step can be made to fail as OpenVINO does, or by a bug of ours."""

    def __init__(self, model: StepModel) -> None:
        self._model = model
        self.failing = self.buggy = False
        self.name, self.vocabulary = model.name, model.vocabulary
        self.context_tokens, self.kv_blocks = model.context_tokens, model.kv_blocks
        self.block_tokens, self.fingerprint = model.block_tokens, model.fingerprint

    def infer(self, batch: StepBatch) -> NDArray[np.float32]:
        if self.failing:
            self.failing = False
            raise RuntimeError("Exception from src/inference: primitive failed")
        if self.buggy:
            raise TypeError("not what a vendor raises")
        return self._model.infer(batch)


class Switches:
    """What was loaded, and what is to go wrong with it."""

    def __init__(self) -> None:
        self.model: FallibleModel | None = None

    def load(self, folder: Path, options: EngineOptions) -> StepModel:
        self.model = FallibleModel(PagedModel(folder, options))
        return self.model

    def turn(self, name: str) -> None:
        setattr(self.model, name, True)
