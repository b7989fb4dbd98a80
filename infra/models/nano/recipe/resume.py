"""Resume: the exported weights become a checkpoint, so that training can go on from the repository.

Usage: python -m recipe.resume MODEL_FOLDER RUN_FOLDER [--hidden 256 --inner 704 --layers 6], then
recipe.train on RUN_FOLDER. Larger sizes grow the model (`grow`). The state of the optimizers is not
part of the export; it is built anew within a few hundred steps.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from .export import shape_of
from .grow import grown


def resume(model: Path, folder: Path, sizes: dict[str, int]) -> None:
    """Write tokenizer.json and checkpoint.pt into a run folder.

    Raises:
        FileExistsError: the folder has a checkpoint already.
        ValueError: the model cannot grow to these sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "checkpoint.pt").exists():
        raise FileExistsError(folder / "checkpoint.pt")
    shutil.copy(model / "tokenizer.json", folder / "tokenizer.json")
    before = shape_of(json.loads((model / "config.json").read_text(encoding="utf-8")))
    width = sizes.get("hidden", before.hidden)
    after = replace(before, **sizes, heads=width // before.head_dim)
    weights = {n: tensor.float() for n, tensor in load_file(model / "model.safetensors").items()}
    torch.manual_seed(0)
    weights = weights if after == before else grown(weights, before, after)
    figures = json.loads((model / "training.json").read_text(encoding="utf-8"))
    saved = {name: figures[name] for name in ("step", "tokens", "targets", "loss")}
    saved |= {"shape": after.as_dict(), "model": weights, "average": weights, "level": 1.0}
    torch.save(saved, folder / "checkpoint.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    for name in ("hidden", "inner", "layers"):
        parser.add_argument(f"--{name}", type=int)
    given = vars(parser.parse_args())
    resume(given.pop("model"), given.pop("folder"), {n: v for n, v in given.items() if v})
