"""`make test-gpu`: says plainly what is missing, or runs the tests of this folder.

    python -m tests.gpu --model /models/Qwen2.5-0.5B-Instruct [arguments of pytest]

It is meant for the image of infra/docker/inference-trtllm.Dockerfile (its stage `test`). The model
is a folder of a small instruct model. A whole run builds some fifty engines: half an hour or more.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.gpu.model import VARIABLE

HOW = r"""
  docker build -f infra/docker/inference-trtllm.Dockerfile --target test -t millrace-gpu .
  docker run --rm --gpus all --ipc host --ulimit memlock=-1 -v /models:/models millrace-gpu \
    python -m tests.gpu --model /models/SMALL-INSTRUCT-MODEL"""


def missing(model: Path | None) -> list[str]:
    """What a run needs and this machine does not have."""
    found = []
    smi = shutil.which("nvidia-smi")
    if smi is None or subprocess.run([smi, "-L"], capture_output=True, check=False).returncode:
        found.append("no GPU here: nvidia-smi is not there, or shows none")
    if importlib.util.find_spec("tensorrt_llm") is None:
        found.append("no tensorrt_llm here: it comes with NVIDIA's image")
    if model is None:
        found.append("no model: give --model FOLDER")
    elif not (model / "config.json").is_file():
        found.append(f"no model in {model}: there is no config.json")
    return found


def main() -> int:
    """Run, or say why not; the exit code is 0 only when something was tested and passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu")
    parser.add_argument("--model", type=Path, default=None)
    known, rest = parser.parse_known_args()
    if lacks := missing(known.model):
        for line in lacks:
            sys.stdout.write(f"test-gpu: {line}\n")
        sys.stdout.write(f"test-gpu: nothing was tested. On a machine with a GPU:{HOW}\n")
        return 1
    environment = os.environ | {VARIABLE: str(known.model)}  # noqa: TID251 - handed on
    command = [sys.executable, "-m", "pytest", "tests/gpu", "--timeout=900", *rest]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
