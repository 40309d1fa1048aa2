"""How fast this machine reads memory: what a step that streams its weights can be measured against."""

import ctypes
import functools
from pathlib import Path

from serve_app.errors import StartupError
from serve_app.model.native.build import build, load, native_flags

_SOURCE = Path(__file__).parent / "reading" / "reading.cpp"


def read_bandwidth(num_threads: int, num_bytes: int = 1 << 29, repeats: int = 5) -> float:
    """Bytes per second, the best of `repeats` passes over `num_bytes` by plain loops that load and add.

    Raises StartupError where it cannot be compiled.
    """
    found = _library().csm_read_bandwidth(num_threads, ctypes.c_int64(num_bytes), repeats)
    if not found:
        raise StartupError("native bandwidth: no memory or no threads for it")
    return found


@functools.cache
def _library() -> ctypes.CDLL:
    library = load(build(native_flags(), source=_SOURCE))
    library.csm_read_bandwidth.restype = ctypes.c_double
    return library
