"""Owns the compiled model and the memory of its KV cache; runs one step at a time.

Must not know requests, scheduling or threads. One caller at a time.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.inference.adapters.model_folder import read_config
from services.inference.adapters.openvino.batch import StepBatch, assemble
from services.inference.adapters.openvino.ir_cache import load_graph
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.openvino.scheduler import Sequence, Slice
from services.inference.adapters.openvino.shape import read_shape
from services.inference.adapters.openvino.vendor import VERSION, op, ov, to_paged_attention


class StepModel(Protocol):
    """What the worker needs of a model."""

    name: str
    vocabulary: int
    context_tokens: int
    kv_blocks: int
    block_tokens: int
    fingerprint: str

    def infer(self, batch: StepBatch) -> NDArray[np.float32]:
        """Logits, one row per sampled index; RuntimeError when the step failed.

        The rows are valid until the next call.
        """
        ...


class PagedModel:
    """A decoder with paged attention on the CPU, ready to run: loaded and warmed up."""

    def __init__(self, folder: Path, options: EngineOptions) -> None:
        shape = read_shape(read_config(folder))
        graph = load_graph(folder, options.weights, options.cache_dir)
        to_paged_attention(graph)
        _gather_before_head(graph)
        compiled = ov.Core().compile_model(graph, "CPU", _properties(options))
        self.name = folder.name
        self.fingerprint = _fingerprint(folder, options)
        self.vocabulary = shape.vocabulary
        self.context_tokens = shape.context
        self.kv_blocks = options.kv_blocks
        self._request = compiled.create_infer_request()
        self.block_tokens = _allocate_cache(compiled, self._request, options.kv_blocks)
        self._warm_up(options)

    def infer(self, batch: StepBatch) -> NDArray[np.float32]:
        """Run one step; releases the GIL meanwhile."""
        for name, values in batch._asdict().items():
            self._request.set_tensor(name, ov.Tensor(values))
        self._request.infer()
        rows = len(batch.sampled_tokens_indices)
        logits: NDArray[np.float32] = self._request.get_output_tensor(0).data
        return logits.reshape(-1, self.vocabulary)[:rows]

    def _warm_up(self, options: EngineOptions) -> None:
        """The first step of each kind builds kernels and is slow: one prefill, one decode.

        It writes into blocks that nobody has yet and that are written again before they are read.
        """
        room = options.kv_blocks * self.block_tokens
        length = min(options.batch_tokens, self.context_tokens, room) - 1
        sequence = Sequence((0,) * (length + 1))
        sequence.blocks = list(range(-(-(length + 1) // self.block_tokens)))
        if length:
            self.infer(assemble([Slice(sequence, 0, length)], self.block_tokens))
        self.infer(assemble([Slice(sequence, length, 1)], self.block_tokens))


def _fingerprint(folder: Path, options: EngineOptions) -> str:
    """What tokens depend on, alike on every machine that has the same of it."""
    digest = hashlib.blake2b(digest_size=8)
    precisions = (options.weights, options.inference_precision, options.kv_precision)
    digest.update("|".join((VERSION, *precisions)).encode())
    digest.update((folder / "config.json").read_bytes())
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("openvino_model.*")]):
        digest.update(f"|{file.name}|{file.stat().st_size}".encode())
    return f"fp_{digest.hexdigest()}"


def _properties(options: EngineOptions) -> dict[str, str | int]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": options.inference_precision,
        "KV_CACHE_PRECISION": options.kv_precision,
        "INFERENCE_NUM_THREADS": options.threads,
    }


def _gather_before_head(graph: Any) -> None:  # noqa: ANN401 - openvino is untyped
    """Compute the large last product only for rows from which a token is chosen."""
    node = graph.get_results()[0].input_value(0).get_node()
    while node.get_type_name() != "MatMul":
        node = node.input_value(0).get_node()
    wanted = op.parameter([-1], np.int64, name="sampled_tokens_indices")
    wanted.output(0).get_tensor().set_names({"sampled_tokens_indices"})
    rows = op.gather(node.input_value(0), wanted, op.constant(np.array([0], np.int64)))
    node.input(0).replace_source_output(rows.output(0))
    graph.add_parameters([wanted])
    graph.validate_nodes_and_infer_types()


def _allocate_cache(compiled: Any, request: Any, blocks: int) -> int:  # noqa: ANN401
    """Give every layer its cache; the compiled shapes say how, and how many tokens a block has."""
    block_tokens = 0
    for port in compiled.inputs:
        name = port.get_any_name()
        if "_cache." not in name:
            continue
        tail = [dimension.get_length() for dimension in list(port.partial_shape)[1:]]
        if name.startswith("value_cache"):  # a quantised key cache has extra rows for its scales
            block_tokens = tail[1]
        shape = ov.Shape([blocks, *tail])
        request.set_tensor(name, ov.Tensor(port.get_element_type(), shape))
    return block_tokens
