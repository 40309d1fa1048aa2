"""One frame of every row in one call: `PlainStep`'s function, computed by kernels/."""

import ctypes
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from serve_app.errors import StartupError
from serve_app.model.adapters.low_rank import LoadedAdapter
from serve_app.model.csm import Csm
from serve_app.model.layers import Block
from serve_app.model.matrix import QuantizedMatrix
from serve_app.model.native.adapters import NativeAdapter, describe_adapter
from serve_app.model.native.build import library
from serve_app.model.native.structures import FrameDescription, describe
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES, RowSampling


def supports(model: Csm) -> str | None:
    """None where `NativeFrame` can run `model` on this machine; else why not, in one line. May compile the kernels."""
    if model.device.type != "cpu":
        return f"it runs on a CPU, the model is on {model.device.type}"
    if model.dtype not in (torch.float32, torch.bfloat16):
        return f"it computes in float32 and bfloat16, the model is {str(model.dtype).removeprefix('torch.')}"
    unknown = {
        matrix.values.dtype
        for transformer in (model.backbone, model.depth)
        for block in transformer.blocks
        for matrix in _matrices(block)
        if isinstance(matrix, QuantizedMatrix) and matrix.values.dtype not in (torch.int8, torch.uint8)
    }
    if unknown:
        return f"it takes int8 and int4 as quantized weights, not {str(unknown.pop()).removeprefix('torch.')}"
    for shape in (model.shape.backbone, model.shape.depth):
        if shape.head_dim % 2 or shape.num_heads % shape.num_kv_heads:
            return "it needs an even head_dim, and key-value heads that divide the heads"
    try:
        library()
    except StartupError as error:
        return str(error)
    return None


class NativeFrame:
    """Holds the kernels' scratch memory and threads for a model and the state of its rows, which it works on in place.

    Shapes: B rows that there is room for, H backbone hidden, K codebooks, G key-value heads, D head dim.
    """

    def __init__(
        self, model: Csm, kv: Tensor, next_input: Tensor, position: Tensor, sampling: RowSampling, num_threads: int
    ) -> None:
        """`kv` [layers, 2, B, G, positions, D], `next_input` [B, H] and `position` [B]; see `Csm.step`.

        Raises StartupError where `supports` has a reason.
        """
        if reason := supports(model):
            raise StartupError(f"native step: {reason}")
        _check(model, kv, next_input, position, sampling)
        self._library = library()
        if self._library.csm_description_size() != ctypes.sizeof(FrameDescription):
            raise StartupError("native step: the kernels and structures.py disagree on FrameDescription")
        # The kernels hold addresses of these.
        self._kept = (model, kv, next_input, position, sampling)
        self._adapters: tuple[LoadedAdapter | None, ...] = ()
        self._described: dict[LoadedAdapter, NativeAdapter] = {}
        self._max_rows = next_input.shape[0]
        self._codes = torch.empty(self._max_rows, model.shape.num_codebooks, dtype=torch.int64)
        description = describe(model, kv, next_input, position, sampling)
        self._library.csm_frame_create.restype = ctypes.c_void_p
        address = self._library.csm_frame_create(ctypes.byref(description), num_threads)
        if not address:
            raise StartupError("native step: no memory or no threads for it")
        self._frame = ctypes.c_void_p(address)
        weakref.finalize(self, self._library.csm_frame_destroy, self._frame)

    def step(self, num_rows: int, adapters: Sequence[LoadedAdapter | None] = ()) -> Tensor:
        """Draw the next frame of the first rows, [num_rows, K] codes, and move their state on.

        `adapters` names each row's, and is empty where no row has one.
        """
        if not 0 < num_rows <= self._max_rows:
            raise ValueError(f"num_rows is {num_rows}, there are {self._max_rows}")
        if (wanted := tuple(adapters)) != self._adapters:
            self._set_adapters(wanted)
        # ctypes releases the interpreter's lock for the call.
        self._library.csm_frame_step(self._frame, num_rows, ctypes.c_void_p(self._codes.data_ptr()))
        return self._codes[:num_rows].clone()

    def _set_adapters(self, adapters: tuple[LoadedAdapter | None, ...]) -> None:
        wanted = [adapter for adapter in dict.fromkeys(adapters) if adapter]
        known = {adapter: self._described.get(adapter) or describe_adapter(adapter) for adapter in wanted}
        pointers = [ctypes.addressof(known[adapter].description) if adapter else None for adapter in adapters]
        array = (ctypes.c_void_p * len(pointers))(*pointers)
        self._library.csm_frame_set_adapters.restype = ctypes.c_bool
        done = self._library.csm_frame_set_adapters(self._frame, len(pointers), array)
        # Only now the kernels have let go of those before.
        self._adapters, self._described = adapters, known
        if not done:
            raise MemoryError("no memory for the ranks of adapters")


def _matrices(block: Block) -> tuple[torch.Tensor | QuantizedMatrix, ...]:
    return block.qkv, block.out, block.gate_up, block.down


def _check(model: Csm, kv: Tensor, next_input: Tensor, position: Tensor, sampling: RowSampling) -> None:
    """The kernels trust what they are given."""
    shape, max_rows = model.shape, next_input.shape[0]
    backbone = shape.backbone
    expected = {
        "kv": (
            kv,
            (backbone.num_layers, 2, max_rows, backbone.num_kv_heads, kv.shape[4], backbone.head_dim),
            model.dtype,
        ),
        "next_input": (next_input, (max_rows, backbone.hidden_size), model.dtype),
        "position": (position, (max_rows,), torch.int64),
        "history": (sampling.history, (max_rows, REPETITION_WINDOW_FRAMES, shape.num_codebooks), torch.int64),
        "greedy": (sampling.greedy, (max_rows,), torch.bool),
        **{
            name: (getattr(sampling, name), (max_rows,), dtype)
            for names, dtype in (
                (("temperature", "top_p", "repetition_penalty"), torch.float32),
                (("top_k", "seed", "min_frames", "frame"), torch.int64),
            )
            for name in names
        },
    }
    for name, (tensor, sizes, dtype) in expected.items():
        if tuple(tensor.shape) != sizes or tensor.dtype != dtype:
            raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(sizes)}")
