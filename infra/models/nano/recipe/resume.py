"""Resume: the exported weights become a checkpoint, so that training can go on from the repository.

Usage: python -m recipe.resume MODEL_FOLDER RUN_FOLDER, then recipe.train on RUN_FOLDER. The state
of the optimizers is not part of the export; it is built anew within a few hundred steps.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file

from .train import Plan, Run


def resume(model: Path, folder: Path) -> None:
    """Write tokenizer.json and checkpoint.pt into a run folder.

    Raises:
        FileExistsError: the folder has a checkpoint already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "checkpoint.pt").exists():
        raise FileExistsError(folder / "checkpoint.pt")
    shutil.copy(model / "tokenizer.json", folder / "tokenizer.json")
    run = Run(Plan(folder, until=0.0, threads=1))
    weights = {
        name: tensor.float() for name, tensor in load_file(model / "model.safetensors").items()
    }
    run.model.load_state_dict(weights, strict=False)
    run.average = {name: w.detach().clone() for name, w in run.model.named_parameters()}
    figures = json.loads((model / "training.json").read_text(encoding="utf-8"))
    run.step, run.tokens = figures["step"], figures["tokens"]
    run.targets, run.loss, run.level = figures["targets"], figures["loss"], 1.0
    run.save()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    resume(given.model, given.folder)
