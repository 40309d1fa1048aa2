"""The device that the model runs on: choosing it, and limiting what this process takes of it."""

from typing import Protocol

import torch
from torch import Tensor

from serve_app.errors import StartupError
from serve_app.model import processor
from serve_app.model.matrix import QuantizationChoice


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises StartupError for a device that is missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise StartupError("device: torch finds no CUDA device; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        settle_libraries()
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on CUDA and float32 on a CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)


class CudaLimit(Protocol):
    """The part of `torch.cuda` that `limit_memory` needs."""

    def set_per_process_memory_fraction(self, fraction: float) -> None: ...


def limit_memory(device: torch.device, fraction: float, cuda: CudaLimit = torch.cuda) -> None:
    """Have torch refuse to allocate more than `fraction` of the card, so that other processes get their shares.

    A CPU has no such limit.
    """
    if device.type == "cuda":
        # Without a device this limits the current one. torch refuses a device without an index here.
        cuda.set_per_process_memory_fraction(fraction)


def settle_libraries() -> None:
    """Keeps CUDA's libraries from choices that cost more than they gain here. Without a card it changes nothing.

    cuDNN's attention plans anew for every length, some 30 ms each, on the thread that computes all streams. The codec
    is float32, which TF32 would round to 10 bits, and its samples must not depend on which algorithm was fastest.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to `device` without waiting for the work that the device still has to do."""
    if device.type == "cpu":
        return tensor
    # From pageable memory the host would wait until the copy is done, and so for all work before it.
    return tensor.pin_memory().to(device, non_blocking=True)


def send_into(place: Tensor, tensor: Tensor) -> None:
    """Copy a host tensor to `place` without waiting either."""
    place.copy_(tensor if place.device.type == "cpu" else tensor.pin_memory(), non_blocking=True)


def use_threads(num_threads: int) -> None:
    """Set torch's CPU threads, 0 as in `processor.num_threads`."""
    torch.set_num_threads(processor.num_threads(num_threads))


def pick_quantization(name: QuantizationChoice, device: torch.device) -> QuantizationChoice:
    """`auto` is "none" on CUDA. Raises StartupError where `device` cannot multiply by matrices of that kind."""
    check_quantization(name, device)
    return "none" if name == "auto" and device.type == "cuda" else name


def check_quantization(name: str, device: torch.device) -> None:
    """Raises StartupError where `device` cannot multiply matrices of that kind."""
    if name == "int4" and device.type != "cpu":
        raise StartupError("quantization: int4 needs a CPU; use int8, fp8 or none")
    if name != "fp8":
        return
    if device.type != "cuda":
        raise StartupError("quantization: fp8 needs a CUDA device; use int8 or none")
    if torch.cuda.get_device_capability(device) < (8, 9):
        raise StartupError(
            f"quantization: fp8 needs compute capability 8.9, {torch.cuda.get_device_name(device)} has less; use int8"
        )
