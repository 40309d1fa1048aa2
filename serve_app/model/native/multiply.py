"""Products by quantized matrices for prompts: torch would first unpack each, which takes longer than the product."""

import ctypes
import weakref
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.errors import StartupError
from serve_app.model.csm import Csm
from serve_app.model.matrix import QuantizedMatrix
from serve_app.model.native.build import library
from serve_app.model.native.structures import describe_matrix


class NativeProduct:
    """Satisfies `matrix.Product` for int8 and int4 on a CPU. Not thread-safe."""

    def __init__(self, num_threads: int) -> None:
        """Raises StartupError where the kernels cannot be compiled."""
        self._library = library()
        self._library.csm_multiplier_create.restype = ctypes.c_void_p
        self._library.csm_multiply.restype = ctypes.c_bool
        address = self._library.csm_multiplier_create(num_threads)
        if not address:
            raise StartupError("native products: no threads for them")
        self._multiplier = ctypes.c_void_p(address)
        weakref.finalize(self, self._library.csm_multiplier_destroy, self._multiplier)

    def __call__(self, x: Tensor, matrix: QuantizedMatrix) -> Tensor:
        """[T, in] to [T, out] in the type of `x`; inputs are rounded to 15 bits of each row's largest."""
        description = describe_matrix(matrix)
        inputs = F.pad(x.float(), (0, description.cols - x.shape[1])).contiguous()
        outputs = torch.empty(len(x), len(matrix.values))
        done = self._library.csm_multiply(
            self._multiplier,
            ctypes.byref(description),
            ctypes.c_void_p(inputs.data_ptr()),
            len(x),
            ctypes.c_void_p(outputs.data_ptr()),
        )
        if not done:
            raise MemoryError(f"no memory for {len(x)} rows of inputs")
        return outputs.to(x.dtype)


def use_native_products(model: Csm, num_threads: int) -> None:
    """Let `model` multiply by its quantized matrices with the kernels; it does so when it reads prompts."""
    product = NativeProduct(num_threads)
    model.change_matrices(lambda m: replace(m, product=product) if isinstance(m, QuantizedMatrix) else m)
