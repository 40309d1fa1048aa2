"""Codes to sound on a CPU, any number of frames of each stream in one call: `SlotDecoder`'s function, by kernels/."""

import ctypes
import functools
import logging
import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve_app.codec.native.structures import DecoderDescription, describe
from serve_app.codec.native.weights import DecoderWeights
from serve_app.errors import StartupError
from serve_app.model.native import build
from serve_app.model.processor import num_threads
from serve_app.settings import CodecSettings

_log = logging.getLogger(__name__)

SOURCE = Path(__file__).parent / "kernels" / "library.cpp"


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels. Raises StartupError, with a reason of one line, where they cannot be compiled or loaded."""
    return build.load(build.build(build.native_flags(), source=SOURCE))


def unusable() -> str | None:
    """None where the kernels run on this machine; else why not, in one line. May compile."""
    try:
        library()
    except StartupError as error:
        return str(error)
    return None


def native_slots(weights: DecoderWeights, settings: CodecSettings) -> "NativeSlotDecoder":
    """With the slots and threads that the settings name. Raises StartupError where `unusable` has a reason."""
    threads = num_threads(settings.threads)
    _log.info("codec: the native decoder, %d slots, %d threads", settings.max_streams, threads)
    return NativeSlotDecoder(weights, settings.max_streams, threads)


class NativeSlotDecoder:
    """Holds the weights in the kernels' form, threads, and the state of each slot. Not thread-safe.

    A stream's samples depend neither on its mates nor on how its frames are grouped, bit for bit; idle slots cost
    nothing. It keeps no reference to the weights that it is made of.
    """

    frames_per_call = 25
    """Enough that a call's own cost does not count, few enough that a mate of a stream which is replayed does not wait
    long."""

    def __init__(
        self, weights: DecoderWeights, num_slots: int, num_threads: int, kernels: ctypes.CDLL | None = None
    ) -> None:
        """`kernels` may be ones compiled otherwise. Raises StartupError where `unusable` has a reason."""
        self._library = kernels or library()
        if self._library.mimi_description_size() != ctypes.sizeof(DecoderDescription):
            raise StartupError("native codec: the kernels and structures.py disagree on DecoderDescription")
        self._num_codebooks, self._num_codes, _ = weights.table.shape
        self._free = list(reversed(range(num_slots)))
        self._library.mimi_create.restype = ctypes.c_void_p
        address = self._library.mimi_create(ctypes.byref(describe(weights)), ctypes.c_int64(num_slots), num_threads)
        if not address:
            raise StartupError("native codec: no memory or no threads for it")
        self._decoder = ctypes.c_void_p(address)
        weakref.finalize(self, self._library.mimi_destroy, self._decoder)
        self._frame_samples: int = self._library.mimi_frame_samples(self._decoder)

    @property
    def num_free(self) -> int:
        return len(self._free)

    def open(self) -> int | None:
        """A slot with a clean state, or None when all are taken."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._library.mimi_reset(self._decoder, ctypes.c_int64(slot))
        return slot

    def close(self, slot: int) -> None:
        assert slot not in self._free, f"slot {slot} is not open"
        self._free.append(slot)

    def decode(self, frames: Mapping[int, NDArray[np.integer]]) -> dict[int, NDArray[np.int16]]:
        """Decode the next frames, [frames, codebooks], of each given slot to their samples. Others stand still."""
        if not frames:
            return {}
        assert not frames.keys() & set(self._free), "only open slots are decoded"
        codes = np.ascontiguousarray(np.concatenate(list(frames.values())), dtype=np.int64)
        assert codes.ndim == 2 and codes.shape[1] == self._num_codebooks, "frames are [frames, codebooks]"
        # The kernels trust what they are given.
        assert not codes.size or 0 <= codes.min() <= codes.max() < self._num_codes, (
            "the engine masks ids that Mimi does not have"
        )
        slots = np.array(list(frames), dtype=np.int64)
        counts = np.array([len(part) for part in frames.values()], dtype=np.int64)
        samples = np.empty(len(codes) * self._frame_samples, dtype=np.int16)
        # ctypes releases the interpreter's lock for the call.
        self._library.mimi_decode(
            self._decoder,
            ctypes.c_int64(len(slots)),
            *(ctypes.c_void_p(a.ctypes.data) for a in (slots, counts, codes, samples)),
        )
        ends = np.cumsum(counts)[:-1] * self._frame_samples
        return dict(zip(frames, np.split(samples, ends), strict=True))

    def warm_up(self) -> None:
        """One frame in every slot, whose memory is thus taken."""
        slots = [slot for slot in (self.open() for _ in range(self.num_free)) if slot is not None]
        silence = np.zeros((1, self._num_codebooks), dtype=np.int64)
        self.decode(dict.fromkeys(slots, silence))
        for slot in reversed(slots):
            self.close(slot)
