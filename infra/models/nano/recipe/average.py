"""The average of exported models of one lineage: what two ends of a training agree on is kept.

Usage: python -m recipe.average TARGET MODEL MODEL. The target takes everything but the weights from
the last one. Source: Wortsman et al. 2022, "Model soups".
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def average(target: Path, models: list[Path]) -> None:
    """Write the folder with the mean of the weights."""
    shutil.copytree(models[-1], target)
    found = [load_file(model / "model.safetensors") for model in models]
    mean = {
        name: torch.stack([one[name].float() for one in found]).mean(0).half().contiguous()
        for name in found[0]
    }
    save_file(mean, target / "model.safetensors", metadata={"format": "pt"})
    (target / "model.safetensors").chmod(0o644)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("target", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    given = parser.parse_args()
    average(given.target, given.models)
