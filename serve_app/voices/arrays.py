"""Arrays of a voice's clips as one safetensors file: codes of each clip, or its sound."""

from collections.abc import Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from serve_app.messages import Codes


def codes_file(codes: Sequence[Codes]) -> bytes:
    return save({f"codes.{number}": clip.to_array() for number, clip in enumerate(codes)})


def codes_of(data: bytes) -> list[Codes]:
    """Raises ValueError for other bytes than those of `codes_file`."""
    return [Codes.from_array(array) for array in _arrays(data, "codes", np.uint16, 2)]


def sound_file(clips: Sequence[bytes]) -> bytes:
    """`clips`: signed 16 bit little-endian mono PCM at 24 kHz."""
    return save({f"pcm.{number}": np.frombuffer(clip, "<i2") for number, clip in enumerate(clips)})


def sound_of(data: bytes) -> list[bytes]:
    """Raises ValueError for other bytes than those of `sound_file`."""
    return [array.tobytes() for array in _arrays(data, "pcm", np.int16, 1)]


def _arrays(data: bytes, name: str, kind: type, num_axes: int) -> list[np.ndarray]:
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ValueError("not a safetensors file") from error
    found = [arrays.get(f"{name}.{number}") for number in range(len(arrays))]
    if not found or any(array is None or array.dtype != kind or array.ndim != num_axes for array in found):
        raise ValueError(f"the file does not hold the {name} of a voice")
    return [array for array in found if array is not None]
