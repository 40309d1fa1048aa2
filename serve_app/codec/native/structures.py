"""The C++ side's structures, field by field as in kernels/*.h, and how they are filled."""

import ctypes

import numpy as np

from serve_app.codec.native.weights import Array, BlockWeights, DecoderWeights, LayerWeights, Norm, Product

_POINTER, _INT64 = ctypes.c_void_p, ctypes.c_int64


class _Matrix(ctypes.Structure):
    _fields_ = (("weight", _POINTER), ("bias", _POINTER), ("rows", _INT64), ("cols", _INT64))


class _Layer(ctypes.Structure):
    _fields_ = (
        ("attention_norm", _POINTER),
        ("attention_norm_bias", _POINTER),
        ("qkv", _Matrix),
        ("out", _Matrix),
        ("mlp_norm", _POINTER),
        ("mlp_norm_bias", _POINTER),
        ("up", _Matrix),
        ("down", _Matrix),
    )


class _Transformer(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.POINTER(_Layer)),
        ("frequencies", _POINTER),
        *((name, _INT64) for name in ("num_layers", "width", "num_heads", "context")),
    )


class _Block(ctypes.Structure):
    _fields_ = (("spread", _Matrix), ("narrow", _Matrix), ("widen", _Matrix), ("stride", _INT64))


class DecoderDescription(ctypes.Structure):
    _fields_ = (
        ("table", _POINTER),
        ("spread", _POINTER),
        ("transformer", _Transformer),
        ("first", _Matrix),
        ("blocks", ctypes.POINTER(_Block)),
        ("last", _Matrix),
        *((name, _INT64) for name in ("num_codebooks", "num_codes", "num_positions", "num_blocks")),
    )


def describe(weights: DecoderWeights) -> DecoderDescription:
    """For as long as `weights` live: it holds addresses."""
    num_codebooks, num_codes, width = weights.table.shape
    return DecoderDescription(
        table=_address(weights.table),
        spread=_address(weights.spread),
        transformer=_Transformer(
            layers=(_Layer * len(weights.layers))(*map(_layer, weights.layers)),
            frequencies=_address(weights.frequencies),
            num_layers=len(weights.layers),
            width=width,
            num_heads=weights.num_heads,
            context=weights.context,
        ),
        first=_matrix(weights.first),
        blocks=(_Block * len(weights.blocks))(*map(_block, weights.blocks)),
        last=_matrix(weights.last),
        num_codebooks=num_codebooks,
        num_codes=num_codes,
        num_positions=weights.num_positions,
        num_blocks=len(weights.blocks),
    )


def _address(array: Array) -> int:
    assert array.flags.c_contiguous and array.dtype == np.float32, "the kernels take dense float32"
    return array.ctypes.data


def _matrix(product: Product) -> _Matrix:
    bias = None if product.bias is None else _address(product.bias)
    return _Matrix(_address(product.weight), bias, *product.weight.shape)


def _norm(norm: Norm) -> tuple[int, int]:
    return _address(norm.weight), _address(norm.bias)


def _layer(layer: LayerWeights) -> _Layer:
    return _Layer(
        *_norm(layer.attention_norm),
        _matrix(layer.qkv),
        _matrix(layer.out),
        *_norm(layer.mlp_norm),
        _matrix(layer.up),
        _matrix(layer.down),
    )


def _block(block: BlockWeights) -> _Block:
    return _Block(_matrix(block.spread), _matrix(block.narrow), _matrix(block.widen), block.stride)
