"""Growth: a trained decoder becomes a wider and deeper one that says the same at first.

Owns which new weights are nothing and which are small and random (after Net2Net, Chen et al. 2016:
growth that preserves the function). New directions of the residual are read and spelt with small
random weights and written with zeros, new heads and neurons write zeros, new layers write zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .model import Decoder, Shape

SMALL = 0.02
WRITES = ("o_proj.weight", "down_proj.weight")


def place(old: Tensor, like: Tensor, scale: float, writes: bool) -> Tensor:
    """An old matrix in the upper left corner of a larger one."""
    out = torch.zeros_like(like) if writes else torch.randn_like(like) * SMALL * scale
    out[: old.shape[0], : old.shape[1]] = old
    if not writes:  # what is new on the side of the output may be whatever it is in a new network
        out[old.shape[0] :] = like[old.shape[0] :]
    return out


def norm(old: Tensor, like: Tensor) -> Tensor:
    """A norm's scale where the mean is taken over more directions, the new ones empty."""
    share = (len(old) / len(like)) ** 0.5
    out = torch.full_like(like, float(old.mean()) * share)
    out[: len(old)] = old * share
    return out


def source(index: int, before: int, after: int) -> int | None:
    """The old layer that a new one continues; none for those put in front of the last."""
    if index < before - 1:
        return index
    return before - 1 if index == after - 1 else None


@torch.no_grad()
def grown(weights: dict[str, Tensor], before: Shape, after: Shape) -> dict[str, Tensor]:
    """The weights for the larger shape.

    Raises:
        ValueError: the new shape is smaller somewhere, or its heads have another size.
    """
    larger = all(getattr(after, n) >= getattr(before, n) for n in ("hidden", "inner", "layers"))
    if not larger or before.head_dim != after.head_dim or before.vocab != after.vocab:
        raise ValueError(f"{before} cannot grow into {after}: only width and depth grow")
    out = {}
    for name, like in Decoder(after).named_parameters():
        parts = name.split(".")
        if parts[1] == "layers":
            at = source(int(parts[2]), before.layers, after.layers)
            if at is None:
                out[name] = torch.zeros_like(like) if name.endswith(WRITES) else like.detach()
                continue
            name_before = ".".join([*parts[:2], str(at), *parts[3:]])
        else:
            name_before = name
        old = weights[name_before]
        if like.ndim == 1:
            out[name] = norm(old, like)
        elif "embed" in name:
            out[name] = place(old, like, float(old.std()) / SMALL / 4, writes=False)
        else:
            out[name] = place(old, like, 0.1, name.endswith(WRITES))
    return out
