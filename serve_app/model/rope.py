"""Rotary position embeddings (Su et al., 2021; the llama3 rescaling as in transformers' modeling_rope_utils)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from serve_app.model.shape import RopeShape, TransformerShape


def inverse_frequencies(rope: RopeShape, head_dim: int) -> Tensor:
    """[head_dim / 2] in float32, slowest last."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    frequencies = 1.0 / (rope.theta**exponents)
    if rope.kind == "default":
        return frequencies
    wavelengths = 2 * math.pi / frequencies
    longest_kept = rope.original_positions / rope.high_freq_factor
    shortest_scaled = rope.original_positions / rope.low_freq_factor
    blend = (rope.original_positions / wavelengths - rope.low_freq_factor) / (
        rope.high_freq_factor - rope.low_freq_factor
    )
    blended = (1 - blend) * frequencies / rope.factor + blend * frequencies
    scaled = torch.where(wavelengths > shortest_scaled, frequencies / rope.factor, frequencies)
    between = (wavelengths >= longest_kept) & (wavelengths <= shortest_scaled)
    return torch.where(between, blended, scaled)


class Rotation(NamedTuple):
    """cos and sin of some positions, broadcastable to [R, S, heads, head_dim]. sin includes the sign for `rotate`."""

    cos: Tensor
    sin: Tensor


class RotationTable:
    """cos and sin of every position, computed in float32 as in transformers.

    It has one position more than the model, for steps that are launched ahead of their sequence's end.
    """

    def __init__(self, shape: TransformerShape, device: torch.device, dtype: torch.dtype) -> None:
        positions = torch.arange(shape.max_positions + 1, dtype=torch.float32)
        angles = torch.outer(positions, inverse_frequencies(shape.rope, shape.head_dim))
        cos, sin = angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), dim=1)
        self.cos = cos[:, None].to(device=device, dtype=dtype)
        self.sin = sin[:, None].to(device=device, dtype=dtype)

    def at_block(self, start: int, end: int) -> Rotation:
        """For S consecutive tokens: [1, S, 1, D]."""
        return Rotation(self.cos[None, start:end], self.sin[None, start:end])

    def at_tokens(self, positions: Tensor) -> Rotation:
        """For the T tokens of a single row, `positions` [T]: [1, T, 1, D]."""
        return Rotation(self.cos[None, positions], self.sin[None, positions])

    def at_positions(self, positions: Tensor) -> Rotation:
        """For one token a row, `positions` [R]: [R, 1, 1, D]."""
        return Rotation(self.cos[positions, None], self.sin[positions, None])


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate `x` [R, S, heads, head_dim], whose two halves are the parts of each rotated pair."""
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * rotation.cos, torch.cat((second, first), dim=-1), rotation.sin)
