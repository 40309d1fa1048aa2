"""Rotary position embeddings (Su et al., 2021; the llama3 rescaling as in transformers' modeling_rope_utils)."""

import math

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


def rotation_table(shape: TransformerShape, dtype: torch.dtype, device: torch.device) -> Tensor:
    """cos and sin of every position: [max_positions, 2, head_dim], computed in float32 as transformers does."""
    positions = torch.arange(shape.max_positions, dtype=torch.float32)
    angles = torch.outer(positions, inverse_frequencies(shape.rope, shape.head_dim)).repeat(1, 2)
    return torch.stack((angles.cos(), angles.sin()), dim=1).to(device=device, dtype=dtype)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn `x` [..., heads, head_dim] by `rotation` [..., 2, head_dim]; halves are rotated against each other."""
    cos, sin = rotation.unsqueeze(-3).unbind(-2)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
