"""How fast this machine reads memory: what a step that streams its weights can be measured against."""

import ctypes

from serve_app.errors import StartupError
from serve_app.model.native.build import library


def read_bandwidth(num_threads: int, num_bytes: int = 1 << 29, repeats: int = 5) -> float:
    """Bytes per second, the best of `repeats`: a bfloat16 matrix of `num_bytes` times one vector, as a step does it.

    Raises StartupError where the kernels cannot be compiled.
    """
    kernels = library()
    kernels.csm_read_bandwidth.restype = ctypes.c_double
    found = kernels.csm_read_bandwidth(num_threads, ctypes.c_int64(num_bytes), repeats)
    if not found:
        raise StartupError("native bandwidth: no memory or no threads for it")
    return found
