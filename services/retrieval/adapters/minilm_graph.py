"""Owns the OpenVINO graph of the sentence encoder: token ids in, unit vectors out.

A BERT encoder with mean pooling and L2 normalisation inside, built from the weights without torch
(largest difference to torch 2.7e-7, facts: engine.md section 8). Must not know files or threads.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# With its telemetry package present, openvino reports to a web analytics host when imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # blocks the import

import openvino  # noqa: E402 - after the block
from openvino import opset13  # noqa: E402

Node = Any  # a node of the graph; openvino is untyped
ov: Any = openvino
op: Any = opset13
LAYERS, HEADS, HIDDEN, EPSILON = 6, 12, 384, 1e-12
_MASKED = -3e38


def compile_encoder(weights: Mapping[str, NDArray[np.float32]], threads: int) -> Node:
    """The encoder for this CPU in f32, so that vectors do not depend on the machine."""
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    return ov.Core().compile_model(_Encoder(weights).build(), "CPU", properties)


def _int(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))


def _scalar(value: int) -> Node:
    return op.constant(np.array(value, np.int64))


def _float(value: float) -> Node:
    return op.constant(np.array(value, np.float32))


def _input(name: str) -> Node:
    parameter = op.parameter([-1, -1], np.int64, name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter


class _Encoder:
    """One use: lays out the graph."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._ids, self._mask = _input("input_ids"), _input("attention_mask")

    def build(self) -> Node:
        present = op.convert(self._mask, "f32")
        absent = op.multiply(op.subtract(_float(1.0), present), _float(_MASKED))
        hidden, bias = self._embedded(), op.unsqueeze(absent, _int(1, 2))
        for layer in range(LAYERS):
            hidden = self._layer(hidden, bias, f"encoder.layer.{layer}")
        result = op.result(op.normalize_l2(_mean(hidden, present), _int(1), 1e-12, "max"))
        return ov.Model([result], [self._ids, self._mask], "minilm")

    def _constant(self, name: str) -> Node:
        return op.constant(self._weights[name])

    def _embedded(self) -> Node:
        length = op.gather(op.shape_of(self._ids), _scalar(1), _scalar(0))
        places = op.range(_scalar(0), length, _scalar(1), "i64")
        kind = self._weights["embeddings.token_type_embeddings.weight"][0]  # always sentence A
        positions = op.constant(self._weights["embeddings.position_embeddings.weight"] + kind)
        words = op.gather(
            self._constant("embeddings.word_embeddings.weight"), self._ids, _scalar(0)
        )
        placed = op.unsqueeze(op.gather(positions, places, _scalar(0)), _int(0))
        return self._norm(op.add(words, placed), "embeddings.LayerNorm")

    def _layer(self, x: Node, bias: Node, name: str) -> Node:
        query, key, value = (
            self._heads(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value")
        )
        mixed = op.scaled_dot_product_attention(query, key, value, bias)
        flat = op.reshape(op.transpose(mixed, _int(0, 2, 1, 3)), _int(0, 0, HIDDEN), True)
        x = op.add(x, self._linear(flat, f"{name}.attention.output.dense"))
        x = self._norm(x, f"{name}.attention.output.LayerNorm")
        inner = op.gelu(self._linear(x, f"{name}.intermediate.dense"), "erf")
        x = op.add(x, self._linear(inner, f"{name}.output.dense"))
        return self._norm(x, f"{name}.output.LayerNorm")

    def _heads(self, x: Node, name: str) -> Node:
        split = op.reshape(self._linear(x, name), _int(0, 0, HEADS, HIDDEN // HEADS), True)
        return op.transpose(split, _int(0, 2, 1, 3))

    def _linear(self, x: Node, name: str) -> Node:
        product = op.matmul(x, self._constant(f"{name}.weight"), False, True)
        return op.add(product, self._constant(f"{name}.bias"))

    def _norm(self, x: Node, name: str) -> Node:
        centred = op.mvn(x, _int(-1), True, EPSILON, "inside_sqrt")
        return op.add(
            op.multiply(centred, self._constant(f"{name}.weight")), self._constant(f"{name}.bias")
        )


def _mean(hidden: Node, present: Node) -> Node:
    """Mean over the tokens that are there."""
    weight = op.unsqueeze(present, _int(2))
    total = op.reduce_sum(op.multiply(hidden, weight), _int(1), False)
    return op.divide(total, op.maximum(op.reduce_sum(weight, _int(1), False), _float(1e-9)))
