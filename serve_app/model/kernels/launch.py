"""Helpers to launch kernels."""

from typing import Any


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Run `kernel` once for every point of `grid`. Options are its constants and Triton's own."""
    kernel[grid](*args, **options)


def padded(size: int, least: int = 1) -> int:
    """The next power of two, which Triton requires of block sizes."""
    return max(least, 1 << (size - 1).bit_length())
