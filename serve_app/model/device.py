"""Where the math runs."""

import os

import torch

from serve_app.errors import StartupError
from serve_app.model.matrix import QuantizationChoice


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is any. Raises StartupError for a device that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise StartupError("device: cuda was asked for, and torch sees no CUDA device; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on CUDA and float32 on a CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def use_threads(num_threads: int) -> None:
    """Set torch's CPU threads; 0 takes half of this process's cores, since generator and decoder work side by side."""
    torch.set_num_threads(num_threads or max(1, len(os.sched_getaffinity(0)) // 2))


def pick_quantization(name: QuantizationChoice, device: torch.device) -> QuantizationChoice:
    """`auto` is "none" on CUDA. Raises StartupError where `device` cannot multiply by matrices of that kind."""
    check_quantization(name, device)
    return "none" if name == "auto" and device.type == "cuda" else name


def check_quantization(name: str, device: torch.device) -> None:
    """Raises StartupError where `device` cannot multiply by matrices of that kind."""
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
