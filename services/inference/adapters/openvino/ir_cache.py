"""Owns where a model's graph comes from: the folder, the cache, or built now.

Must not know what is in the graph. A cache entry is complete or absent: it is written beside its
place and renamed, so a killed or second process never leaves or sees half of one.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.inference.adapters.model_folder import read_config
from services.inference.adapters.openvino.ir import build_graph
from services.inference.adapters.openvino.options import Precision
from services.inference.adapters.openvino.safetensors import Weights, header
from services.inference.adapters.openvino.shape import read_shape
from services.inference.adapters.openvino.vendor import VERSION, ov

_XML = "openvino_model.xml"
_LAYOUT = "1"  # raise when ir.py changes the graph


def load_graph(folder: Path, precision: Precision, cache_dir: Path | None) -> Any:  # noqa: ANN401
    """Return the `openvino.Model` of a folder; an IR already in the folder is used as it is."""
    if (folder / _XML).exists():
        return ov.Core().read_model(folder / _XML)
    if cache_dir is None:
        return _build(folder, precision)
    entry = cache_dir / f"{folder.name}-{precision}-{_fingerprint(folder, precision)}"
    if not (entry / _XML).exists():
        _store(_build(folder, precision), entry)
    return ov.Core().read_model(entry / _XML)


def _build(folder: Path, precision: Precision) -> Any:  # noqa: ANN401 - openvino is untyped
    return build_graph(read_shape(read_config(folder)), Weights(folder), precision)


def _store(model: Any, entry: Path) -> None:  # noqa: ANN401 - openvino is untyped
    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=entry.parent, ignore_cleanup_errors=True) as place:
        half = Path(place) / entry.name
        half.mkdir()
        ov.save_model(model, half / _XML, compress_to_fp16=False)
        with suppress(OSError):  # another process was first: its entry is as good
            half.rename(entry)


def _fingerprint(folder: Path, precision: Precision) -> str:
    """Changes with weights, configuration, precision, OpenVINO and the graph's layout.

    Weights count by size, time of change and header: reading gigabytes at each start is no option.
    """
    digest = hashlib.blake2b(digest_size=12)
    digest.update("|".join((_LAYOUT, VERSION, precision)).encode())
    digest.update((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        state = file.stat()
        digest.update(f"|{file.name}|{state.st_size}|{state.st_mtime_ns}|".encode())
        digest.update(header(file))
    return digest.hexdigest()
