"""What the kernels need of a Mimi: matrices in the form that they multiply by. `from_mimi.py` makes them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Product:
    """`weight` [outputs, inputs] and `bias` [outputs], float32."""

    weight: Array
    bias: Array | None = None


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer norm, [W]."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One transformer layer."""

    attention_norm: Norm
    qkv: Product
    out: Product
    mlp_norm: Norm
    up: Product
    down: Product


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """A transposed convolution and the residual block behind it."""

    spread: Product
    narrow: Product
    widen: Product
    stride: int


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """Everything of the decoder. C codebooks, W width of the transformer, P positions of a frame."""

    table: Array
    """[C, codes, W]: what a code adds to its frame, the output projections included."""
    spread: Array
    """[2 * P, W]: a frame's share in its own positions, then in those of the next frame."""
    frequencies: Array
    layers: list[LayerWeights]
    num_heads: int
    context: int
    first: Product
    blocks: list[BlockWeights]
    last: Product
    num_positions: int
