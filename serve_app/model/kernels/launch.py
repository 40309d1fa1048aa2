"""Helpers to launch kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_compiles_only = False
_is_dependent = False


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Run `kernel` once for every point of `grid`. Options are its constants and Triton's own."""
    options["DEPENDENT"] = _is_dependent
    if _is_dependent:
        options["launch_pdl"] = True
    if _compiles_only:
        kernel.warmup(*args, grid=grid, **options)
    else:
        kernel[grid](*args, **options)


@contextmanager
def compiling_only() -> Iterator[None]:
    """Launches in this process compile their kernel for the active driver's target, and run nothing."""
    global _compiles_only
    _compiles_only = True
    try:
        yield
    finally:
        _compiles_only = False


@contextmanager
def dependent_launches(are_on: bool) -> Iterator[None]:
    """See `dependent.py`."""
    global _is_dependent
    _is_dependent = are_on
    try:
        yield
    finally:
        _is_dependent = False


def padded(size: int, least: int = 1) -> int:
    """The next power of two, which Triton requires of block sizes."""
    return max(least, 1 << (size - 1).bit_length())
