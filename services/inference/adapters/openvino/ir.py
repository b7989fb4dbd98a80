"""Owns the OpenVINO graph of a dense decoder, built from Hugging Face weights without torch.

The graph is the stateful form that the paged-attention pass recognises: one scaled-dot-product
attention per layer over a key and a value variable. Must not know files, batching or requests.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from services.inference.adapters.openvino.options import Precision
from services.inference.adapters.openvino.safetensors import Weights
from services.inference.adapters.openvino.shape import DecoderShape, inverse_frequencies
from services.inference.adapters.openvino.vendor import op, ov

Node = Any  # a node of the graph; openvino is untyped
_MASKED = -65504.0  # the lowest f16: stays finite in every precision


def build_graph(shape: DecoderShape, weights: Weights, precision: Precision) -> Any:  # noqa: ANN401
    """Return the `openvino.Model`: token ids in, logits of every position out."""
    return _Decoder(shape, weights, precision).build()


def _int(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))


def _scalar(value: int) -> Node:
    return op.constant(np.array(value, np.int64))


def _float(value: float) -> Node:
    return op.constant(np.array(value, np.float32))


class _Decoder:
    """One use: collects inputs, variables and sinks while the layers are laid out."""

    def __init__(self, shape: DecoderShape, weights: Weights, precision: Precision) -> None:
        self._shape, self._weights, self._precision = shape, weights, precision
        self._variables: list[Node] = []
        self._sinks: list[Node] = []
        self._ids = _input("input_ids", 2, np.int64)
        self._attention = _input("attention_mask", 2, np.int64)
        self._positions = _input("position_ids", 2, np.int64)
        self._beams = _input("beam_idx", 1, np.int32)
        self._batch = op.gather(op.shape_of(self._ids), _int(0), _scalar(0))
        self._mask = self._causal_mask()
        self._cos, self._sin = self._rotary_tables()

    def build(self) -> Node:
        embedding = self._matrix("model.embed_tokens.weight")
        x = op.gather(embedding, self._ids, _scalar(0))
        for layer in range(self._shape.layers):
            x = self._layer(x, layer)
        tied = "lm_head.weight" not in self._weights
        head = embedding if tied else self._matrix("lm_head.weight")
        logits = op.result(op.matmul(self._norm(x, "model.norm"), head, False, True))
        logits.output(0).get_tensor().set_names({"logits"})
        inputs = [self._ids, self._attention, self._positions, self._beams]
        return ov.Model([logits], self._sinks, inputs, self._variables, "decoder")

    def _layer(self, x: Node, layer: int) -> Node:
        name = f"model.layers.{layer}"
        x = op.add(x, self._attend(self._norm(x, f"{name}.input_layernorm"), layer))
        h = self._norm(x, f"{name}.post_attention_layernorm")
        gate = op.swish(self._linear(h, f"{name}.mlp.gate_proj"))
        inner = op.multiply(gate, self._linear(h, f"{name}.mlp.up_proj"))
        return op.add(x, self._linear(inner, f"{name}.mlp.down_proj"))

    def _attend(self, h: Node, layer: int) -> Node:
        s, name = self._shape, f"model.layers.{layer}.self_attn"
        query = self._rotate(self._heads(h, f"{name}.q_proj", s.heads, f"{name}.q_norm"))
        key = self._rotate(self._heads(h, f"{name}.k_proj", s.kv_heads, f"{name}.k_norm"))
        value = self._heads(h, f"{name}.v_proj", s.kv_heads, None)
        # The pass finds caches by these variable names (two ids in one string, as exporters write).
        stem = f"past_key_values.{layer}"
        keys = self._cached(f"{stem}.keypresent.{layer}.key", key)
        values = self._cached(f"{stem}.valuepresent.{layer}.value", value)
        scale = _float(s.head_dim**-0.5)
        mixed = op.scaled_dot_product_attention(
            query, self._repeated(keys), self._repeated(values), self._mask, scale
        )
        flat = op.reshape(
            op.transpose(mixed, _int(0, 2, 1, 3)), _int(0, 0, s.heads * s.head_dim), True
        )
        return self._linear(flat, f"{name}.o_proj")

    def _matrix(self, name: str) -> Node:
        values = self._weights.f32(name)
        if self._precision == "f32":
            return op.constant(values)
        if self._precision == "f16":
            return op.convert(op.constant(values.astype(np.float16)), "f32")
        scale = np.maximum(np.abs(values).max(axis=1, keepdims=True) / 127, 1e-8)
        rounded = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
        wide = op.convert(op.constant(rounded), "f32")
        return op.multiply(wide, op.constant(scale.astype(np.float32)))

    def _linear(self, x: Node, name: str) -> Node:
        y = op.matmul(x, self._matrix(f"{name}.weight"), False, True)
        if f"{name}.bias" not in self._weights:
            return y
        return op.add(y, op.constant(self._weights.f32(f"{name}.bias")[None, None]))

    def _norm(self, x: Node, name: str) -> Node:
        mean = op.reduce_mean(op.power(x, _float(2.0)), _int(-1), True)
        inverse = op.divide(_float(1.0), op.sqrt(op.add(mean, _float(self._shape.epsilon))))
        return op.multiply(
            op.multiply(x, inverse), op.constant(self._weights.f32(f"{name}.weight"))
        )

    def _heads(self, h: Node, name: str, count: int, norm: str | None) -> Node:
        y = op.reshape(self._linear(h, name), _int(0, 0, count, self._shape.head_dim), True)
        if norm is not None and f"{norm}.weight" in self._weights:
            y = self._norm(y, norm)
        return op.transpose(y, _int(0, 2, 1, 3))

    def _cached(self, name: str, new: Node) -> Node:
        kv_heads, head_dim = self._shape.kv_heads, self._shape.head_dim
        info = ov.op.util.VariableInfo()
        info.data_shape = ov.PartialShape([-1, kv_heads, -1, head_dim])
        info.data_type = ov.Type.f32
        info.variable_id = name
        variable = ov.op.util.Variable(info)
        extent = op.concat([self._batch, _int(kv_heads), _int(0), _int(head_dim)], 0)
        past = op.read_value(op.broadcast(_float(0.0), extent), variable)
        grown = op.concat([op.gather(past, self._beams, _scalar(0)), new], 2)
        self._sinks.append(op.assign(grown, variable))
        self._variables.append(variable)
        return grown

    def _repeated(self, y: Node) -> Node:
        """Grouped-query attention: every key head serves several query heads."""
        s = self._shape
        if s.kv_heads == s.heads:
            return y
        extent = op.shape_of(y)
        front = op.gather(extent, _int(0, 1), _scalar(0))
        back = op.gather(extent, _int(2, 3), _scalar(0))
        wanted = op.concat([front, _int(s.heads // s.kv_heads), back], 0)
        wide = op.broadcast(op.unsqueeze(y, _int(2)), wanted, "BIDIRECTIONAL")
        return op.reshape(wide, _int(0, s.heads, -1, s.head_dim), True)

    def _rotate(self, q: Node) -> Node:
        half, last = self._shape.head_dim // 2, _int(3)
        upper = op.slice(q, _int(half), _int(2**63 - 1), _int(1), last)
        lower = op.slice(q, _int(0), _int(half), _int(1), last)
        turned = op.concat([op.multiply(upper, _float(-1.0)), lower], -1)
        return op.add(op.multiply(q, self._cos), op.multiply(turned, self._sin))

    def _rotary_tables(self) -> tuple[Node, Node]:
        frequencies = op.constant(inverse_frequencies(self._shape)[None, None, :])
        positions = op.convert(op.unsqueeze(self._positions, _int(2)), "f32")
        angles = op.matmul(positions, frequencies, False, False)
        both = op.concat([angles, angles], -1)
        return op.unsqueeze(op.cos(both), _int(1)), op.unsqueeze(op.sin(both), _int(1))

    def _causal_mask(self) -> Node:
        length = op.gather(op.shape_of(self._ids), _scalar(1), _scalar(0))
        total = op.gather(op.shape_of(self._attention), _scalar(1), _scalar(0))
        keys = op.unsqueeze(op.range(_scalar(0), total, _scalar(1), "i64"), _int(0))
        first = op.subtract(total, length)
        queries = op.unsqueeze(op.range(first, total, _scalar(1), "i64"), _int(1))
        future = op.select(op.greater(keys, queries), _float(_MASKED), _float(0.0))
        absent = op.convert(op.subtract(_scalar(1), self._attention), "f32")
        padding = op.unsqueeze(op.multiply(absent, _float(_MASKED)), _int(1, 2))
        return op.add(op.unsqueeze(future, _int(0, 1)), padding)


def _input(name: str, rank: int, kind: type[np.generic]) -> Node:
    parameter = op.parameter([-1] * rank, kind, name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter
