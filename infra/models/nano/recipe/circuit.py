"""The start of training: a copying circuit built into the first two layers by hand.

Owns the construction. A small decoder spends most of a short training run on discovering how to
copy (attend to what followed an earlier occurrence of the current token). The circuit is known, so
it is put in place: one head of layer 0 looks at the previous token and writes its code into quiet
directions; one head of layer 1 looks for that code and copies the token found. Training keeps it,
because it is useful from the first step, and refines everything else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .model import Decoder, RMSNorm

CONSTANT = 0  # the residual dimension that every token has in common
SHARE = 0.1  # how much of an embedding's energy lies there
SHARPNESS = 8.0  # by how much the previous token beats its neighbours, before the softmax
WRITE, MATCH, COPY = 3.0, 6.0, 10.0
FAST, SLOW = 0.15, 0.002  # rotation speeds that tell neighbours apart, and those that hardly turn
EMBEDDING = 0.1


def frame(width: int, count: int, banned: int) -> Tensor:
    """Random orthonormal rows that avoid one dimension."""
    rows = torch.linalg.qr(torch.randn(width, width))[0][:count]
    rows[:, banned] = 0
    return rows


def normalised(weight: Tensor, norm: RMSNorm) -> Tensor:
    """Rows that read from the residual through a norm with a learned scale."""
    return weight / norm.weight


@torch.no_grad()
def install(model: Decoder) -> None:
    """Rewrite head 0 of layers 0 and 1."""
    shape = model.shape
    embedding = model.model.embed_tokens.weight
    embedding.normal_(std=EMBEDDING)
    energy = embedding.pow(2).sum(1).mean()
    embedding[:, CONSTANT] = (energy * SHARE / (1 - SHARE)).sqrt()
    size = embedding.pow(2).mean().sqrt()
    level = (embedding / embedding.pow(2).mean(1, keepdim=True).sqrt())[:, CONSTANT].mean()
    half = shape.head_dim // 2
    speeds = shape.theta ** -(torch.arange(half) / half)
    slow = [i for i in range(half) if speeds[i] < SLOW]
    code = frame(shape.hidden, 2 * len(slow), CONSTANT)
    quiet = frame(shape.hidden, 2 * len(slow), CONSTANT)
    head = slice(0, shape.head_dim)
    first, second = model.model.layers[0], model.model.layers[1]
    for layer in (first, second):
        for name in ("q_proj", "k_proj", "v_proj"):
            getattr(layer.self_attn, name).weight[head] = 0
        layer.self_attn.o_proj.weight[:, head] = 0
    look_back(model, speeds, float(level))
    first.self_attn.v_proj.weight[: len(code)] = normalised(code, first.input_layernorm)
    first.self_attn.o_proj.weight[:, : len(code)] = WRITE * size * quiet.T
    rows = slow + [i + half for i in slow]
    second.self_attn.q_proj.weight[rows] = MATCH**0.5 * normalised(code, second.input_layernorm)
    second.self_attn.k_proj.weight[rows] = MATCH**0.5 * normalised(quiet, second.input_layernorm)
    copied = frame(shape.hidden, shape.head_dim, CONSTANT)
    second.self_attn.v_proj.weight[head] = normalised(copied, second.input_layernorm)
    second.self_attn.o_proj.weight[:, head] = COPY * size * copied.T


def look_back(model: Decoder, speeds: Tensor, level: float) -> None:
    """Queries and keys of head 0 in layer 0: constant vectors whose angles differ by one step."""
    half = len(speeds)
    attention = model.model.layers[0].self_attn
    fast = [i for i in range(half) if speeds[i] > FAST]
    gap = float(sum(1 - torch.cos(speeds[i]) for i in fast))
    size = (SHARPNESS * model.shape.head_dim**0.5 / gap) ** 0.5 / level
    for i in fast:
        attention.q_proj.weight[i, CONSTANT] = size * torch.cos(speeds[i])
        attention.q_proj.weight[i + half, CONSTANT] = -size * torch.sin(speeds[i])
        attention.k_proj.weight[i, CONSTANT] = size
