"""What the kernels' callers share."""

from typing import Any


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Run `kernel` once for every point of `grid`; options are its constants, and Triton's own."""
    kernel[grid](*args, **options)


def padded(size: int, least: int = 1) -> int:
    """The next power of two: no block has another size."""
    return max(least, 1 << (size - 1).bit_length())
