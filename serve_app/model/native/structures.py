"""The C++ side's structures, field by field as in kernels/*.h, and how they are filled from tensors."""

import ctypes

import torch
from torch import Tensor

from serve_app.model.csm import Csm
from serve_app.model.layers import Block, Transformer
from serve_app.model.matrix import Matrix, QuantizedMatrix
from serve_app.model.rope import RotationTable
from serve_app.model.sampling import RowSampling

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}
"""`Kind` of dots.h; uint8 holds two numbers of 4 bits."""

_POINTER, _INT64, _INT32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32


class MatrixDescription(ctypes.Structure):
    _fields_ = (("values", _POINTER), ("scales", _POINTER), ("rows", _INT64), ("cols", _INT64), ("kind", _INT32))


class _Layer(ctypes.Structure):
    _fields_ = (
        ("attention_norm", _POINTER),
        ("mlp_norm", _POINTER),
        ("qkv", MatrixDescription),
        ("out", MatrixDescription),
        ("gate_up", MatrixDescription),
        ("down", MatrixDescription),
    )


class _Stack(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.POINTER(_Layer)),
        ("norm", _POINTER),
        ("cos", _POINTER),
        ("sin", _POINTER),
        *(
            (name, _INT64)
            for name in (
                "num_layers",
                "hidden_size",
                "intermediate_size",
                "num_heads",
                "num_kv_heads",
                "head_dim",
                "num_positions",
            )
        ),
        ("rms_norm_eps", ctypes.c_double),
    )


class _Memory(ctypes.Structure):
    _fields_ = (
        ("data", _POINTER),
        ("layer_stride", _INT64),
        ("value_stride", _INT64),
        ("row_stride", _INT64),
        ("head_stride", _INT64),
        ("kind", _INT32),
    )


_SAMPLING_FIELDS = (
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "greedy",
    "seed",
    "min_frames",
    "frame",
    "history",
)


class _Sampling(ctypes.Structure):
    _fields_ = tuple((name, _POINTER) for name in _SAMPLING_FIELDS)


class FrameDescription(ctypes.Structure):
    _fields_ = (
        ("backbone", _Stack),
        ("depth", _Stack),
        ("memory", _Memory),
        ("num_positions", _INT64),
        ("first_head", MatrixDescription),
        ("projection", MatrixDescription),
        ("depth_heads", _POINTER),
        ("audio_embedding", _POINTER),
        ("depth_embedding", _POINTER),
        ("next_input", _POINTER),
        ("position", _POINTER),
        ("sampling", _Sampling),
        ("max_rows", _INT64),
        ("num_codebooks", _INT64),
        ("vocab_size", _INT64),
        ("codebook_size", _INT64),
        ("kind", _INT64),
    )


def describe(model: Csm, kv: Tensor, next_input: Tensor, position: Tensor, sampling: RowSampling) -> FrameDescription:
    """What the kernels are told of everything. It holds addresses, not the tensors: those must be kept elsewhere."""
    shape = model.shape
    table = model.backbone_rotation.cos.shape[0]
    return FrameDescription(
        backbone=_stack(model.backbone, model.backbone_rotation),
        depth=_stack(model.depth, model.depth_rotation),
        memory=_memory(kv),
        num_positions=min(kv.shape[4], table),
        first_head=describe_matrix(model.first_head[: shape.codebook_size]),
        projection=describe_matrix(model.projection),
        depth_heads=_address(model.depth_heads),
        audio_embedding=_address(model.audio_embedding),
        depth_embedding=_address(model.depth_embedding),
        next_input=_address(next_input),
        position=_address(position),
        sampling=_Sampling(**{name: _address(getattr(sampling, name)) for name in _SAMPLING_FIELDS}),
        max_rows=next_input.shape[0],
        num_codebooks=shape.num_codebooks,
        vocab_size=shape.vocab_size,
        codebook_size=shape.codebook_size,
        kind=KINDS[model.dtype],
    )


def _address(tensor: Tensor) -> int:
    assert tensor.is_contiguous(), "the kernels take dense tensors"
    return tensor.data_ptr()


def describe_matrix(matrix: Matrix) -> MatrixDescription:
    """For as long as `matrix` lives: it holds addresses."""
    values = matrix.values if isinstance(matrix, QuantizedMatrix) else matrix
    scales = _address(matrix.scales) if isinstance(matrix, QuantizedMatrix) else None
    rows, columns = values.shape
    if values.dtype == torch.uint8:
        columns *= 2
    return MatrixDescription(_address(values), scales, rows, columns, KINDS[values.dtype])


def _layer(block: Block) -> _Layer:
    return _Layer(
        attention_norm=_address(block.attention_norm),
        mlp_norm=_address(block.mlp_norm),
        **{name: describe_matrix(getattr(block, name)) for name in ("qkv", "out", "gate_up", "down")},
    )


def _stack(transformer: Transformer, rotation: RotationTable) -> _Stack:
    shape = transformer.shape
    layers = (_Layer * shape.num_layers)(*(_layer(block) for block in transformer.blocks))
    return _Stack(
        layers=layers,
        norm=_address(transformer.norm),
        cos=_address(rotation.cos),
        sin=_address(rotation.sin),
        num_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        num_positions=rotation.cos.shape[0],
        rms_norm_eps=shape.rms_norm_eps,
    )


def _memory(kv: Tensor) -> _Memory:
    layer, value, row, head, position, last = kv.stride()
    assert last == 1 and position == kv.shape[5], "the kernels take dense keys and values"
    return _Memory(kv.data_ptr(), layer, value, row, head, KINDS[kv.dtype])
