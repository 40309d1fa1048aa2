"""Compiles what would be launched, for a GPU that need not be there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel
from triton.runtime.jit import JITFunction

_TYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8e4nv",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int8: "i8",
    torch.bool: "i1",
}
_DIVISIBLE = [["tt.divisibility", 16]]


class OfflineCompiler:
    """Takes launches; tensors may be on the meta device."""

    def __init__(self, capability: int = 90) -> None:
        self._target = GPUTarget("cuda", capability, 32)
        self.compiled: dict[str, tuple[str, CompiledKernel]] = {}
        """By everything that a kernel is compiled for: its name, and what came of it."""
        self.num_launches = 0

    @contextmanager
    def instead_of_launches(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(JITFunction, "run", lambda kernel, *args, **options: self._compile(kernel, args, options))
            yield

    def _compile(self, kernel: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.num_launches += 1
        values = dict(zip((p.name for p in kernel.params), args, strict=False)) | options
        signature: dict[str, str] = {}
        constants: dict[tuple[int], Any] = {}
        attributes: dict[tuple[int], Any] = {}
        for place, param in enumerate(kernel.params):
            value = values.pop(param.name)
            is_constant = param.is_constexpr or (type(value) is int and value == 1 and not param.do_not_specialize)
            signature[param.name] = "constexpr" if is_constant else _type_of(value)
            if is_constant:
                constants[(place,)] = value
            elif isinstance(value, Tensor) or (type(value) is int and value % 16 == 0 and not param.do_not_specialize):
                attributes[(place,)] = _DIVISIBLE
        tuning = {name: values[name] for name in ("num_warps", "num_stages", "launch_pdl") if name in values}
        key = str((kernel.__name__, signature, constants, attributes, tuning))
        if key not in self.compiled:
            source = ASTSource(kernel, signature, constants, attributes)
            self.compiled[key] = kernel.__name__, triton.compile(source, target=self._target, options=tuning)


def _type_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return "*" + _TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    assert type(value) is int, value
    return "i32" if -(2**31) <= value < 2**31 else "i64"
