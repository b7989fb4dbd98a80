"""Owns reading of safetensors files with numpy. Must not know what the tensors mean."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

_NUMPY: Mapping[str, type[np.generic]] = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,  # numpy has no bfloat16: its bits are the upper half of a float32
}


class Weights:
    """All tensors of a folder, memory-mapped and converted to float32 when asked for."""

    def __init__(self, folder: Path) -> None:
        # some folders hold their weights a second time, under their maker's own names
        found = folder.glob("*.safetensors")
        files = sorted(file for file in found if not file.name.startswith("consolidated"))
        if not files:
            raise FileNotFoundError(f"no safetensors file in {folder.name}")
        self._tensors: dict[str, tuple[NDArray[Any], str]] = {}
        for file in files:
            self._tensors.update(_read(file))

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self) -> tuple[str, ...]:
        """All tensors of the folder."""
        return tuple(self._tensors)

    def f32(self, name: str) -> NDArray[np.float32]:
        """One tensor as float32."""
        if name not in self._tensors:
            raise KeyError(f"the weights have no tensor {name}")
        values, kind = self._tensors[name]
        if kind == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)


def header(file: Path) -> bytes:
    """The JSON that names the tensors, their types and places."""
    with file.open("rb") as stream:
        return stream.read(int.from_bytes(stream.read(8), "little"))


def _read(file: Path) -> dict[str, tuple[NDArray[Any], str]]:
    listing = header(file)
    start = 8 + len(listing)
    with file.open("rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    tensors: dict[str, tuple[NDArray[Any], str]] = {}
    for name, entry in orjson.loads(listing).items():
        if name == "__metadata__":
            continue
        kind = entry["dtype"]
        if kind not in _NUMPY:
            raise ValueError(f"tensor {name} has type {kind}; only F32, F16 and BF16 are read")
        first, end = entry["data_offsets"]
        width = np.dtype(_NUMPY[kind]).itemsize
        flat = np.frombuffer(data, _NUMPY[kind], (end - first) // width, start + first)
        tensors[name] = (flat.reshape(entry["shape"]), kind)
    return tensors
