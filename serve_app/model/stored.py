"""The tensors of files, by name, each read only when it is needed: safetensors, or a pickle of plain tensors."""

import math
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from serve_app.errors import CheckpointError

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Safetensors' names of types."""

_WRAPPERS = ("model", "state_dict", "model_state_dict", "module")
"""Trainers keep the tensors under one of these, beside the state of their optimizer."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a file, or one to write. `make` reads or computes it anew at each call.

    What `make` returns may have another type than `dtype`, which is the one to store it in.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def stored_tensors(paths: Iterable[Path], name: str) -> Iterator[StoredTensor]:
    """The tensors of all files in order. Raises CheckpointError, beginning with `name`, for one that is unreadable."""
    for path in paths:
        yield from (_of_safetensors if path.suffix == ".safetensors" else _of_pickle)(path, name)


def _of_safetensors(path: Path, name: str) -> Iterator[StoredTensor]:
    try:
        # Left open: the tensors are read later, and the file is mapped, not held.
        file: Any = safe_open(path, framework="pt")
        for key in file.keys():  # noqa: SIM118 - not a dict
            header = file.get_slice(key)
            dtype = DTYPES.get(header.get_dtype())
            if dtype is None:
                raise CheckpointError(f"{name}: {path.name}: {key} is in {header.get_dtype()}, which is not served")
            yield StoredTensor(key, tuple(header.get_shape()), dtype, _reader(file, key, path, name))
    except SafetensorError as error:
        raise _unreadable(path, name) from error


def _reader(file: Any, key: str, path: Path, name: str) -> Callable[[], Tensor]:
    def read() -> Tensor:
        try:
            return file.get_tensor(key)
        except SafetensorError as error:
            raise _unreadable(path, name) from error

    return read


def _of_pickle(path: Path, name: str) -> Iterator[StoredTensor]:
    values = _load_pickle(path, name)
    for wrapper in _WRAPPERS:
        if isinstance(values.get(wrapper), Mapping):
            values = values[wrapper]
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{name}: {path.name} holds {key!r}, which is no tensor: save a state dict alone")
        yield StoredTensor(key, tuple(value.shape), value.dtype, lambda value=value: value)


def _load_pickle(path: Path, name: str) -> Mapping[Any, Any]:
    """Of plain tensors and numbers alone: a pickle can run any code while it is read, and this one may not."""
    values: Any = None
    for is_mapped in (True, False):
        try:
            values = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
            break
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f"{name}: {path.name} is a pickle of more than plain tensors, and is not opened: save safetensors"
            ) from error
        except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
            # Files of torch before 1.6 are no zip archives, and cannot be mapped.
            if not is_mapped:
                raise _unreadable(path, name) from error
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{name}: {path.name} holds no tensors by name: save a state dict")
    return values


def _unreadable(path: Path, name: str) -> CheckpointError:
    return CheckpointError(f"{name}: {path.name} is truncated or corrupt: download it again")
