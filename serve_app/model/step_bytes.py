"""The bytes that a step reads at least, whoever computes it: what memory bandwidth makes of a model's speed."""

from dataclasses import dataclass

from serve_app.model.matrix import Quantization
from serve_app.model.shape import CsmShape, TransformerShape

RULE = (
    "every matrix of the backbone and every head once a step, the depth decoder's layers once for each of its passes "
    "(once a step where they fit the last-level cache), and each row's keys and values up to its position"
)
_QUANTIZED_SIZES = {"int8": 1.0, "fp8": 1.0, "int4": 0.5 + 2 / 32}
"""Bytes a weight; those of int4 with their scales."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """`dense`: bytes of a number in the model's own type. `matrix`: of a weight in backbone and depth decoder."""

    dense: int
    matrix: float

    @classmethod
    def of(cls, dense: int, quantization: Quantization) -> "Sizes":
        return cls(dense, dense if quantization == "none" else _QUANTIZED_SIZES[quantization])


def step_bytes(shape: CsmShape, sizes: Sizes, batch: int, kv: int, cache_bytes: int) -> int:
    """By `RULE`, for `batch` rows that stand at position `kv`, with a last-level cache of `cache_bytes`.

    Not counted are norms, the scales of 8 bit weights and single embedding rows.
    """
    hidden, depth_hidden = shape.backbone.hidden_size, shape.depth.hidden_size
    num_passes = shape.num_codebooks - 1
    heads = shape.vocab_size * (hidden + num_passes * depth_hidden) + hidden * depth_hidden
    depth = _num_weights(shape.depth) * sizes.matrix
    depth_reads = 1 if depth <= cache_bytes else num_passes
    keys = shape.backbone.num_layers * 2 * shape.backbone.num_kv_heads * shape.backbone.head_dim
    num_bytes = _num_weights(shape.backbone) * sizes.matrix + heads * sizes.dense + depth * depth_reads
    return round(num_bytes + batch * kv * keys * sizes.dense)


def _num_weights(stack: TransformerShape) -> int:
    heads, keys = stack.num_heads * stack.head_dim, stack.num_kv_heads * stack.head_dim
    layer = stack.hidden_size * (2 * heads + 2 * keys + 3 * stack.intermediate_size)
    return stack.num_layers * layer
