"""Codes to sound on a CPU, any number of frames of each stream in one call: `SlotDecoder`'s function, by kernels/."""

import ctypes
import functools
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from moshi.models.compression import MimiModel
from moshi.modules.conv import StreamingConv1d
from numpy.typing import NDArray

from serve_app.codec.native.structures import DecoderDescription, describe
from serve_app.codec.native.weights import decoder_weights
from serve_app.errors import StartupError
from serve_app.model.native import build

SOURCE = Path(__file__).parent / "kernels" / "library.cpp"


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels. Raises StartupError, with a reason of one line, where they cannot be compiled or loaded."""
    return build.load(build.build(build.native_flags(), source=SOURCE))


def supports(mimi: MimiModel) -> str | None:
    """None where `NativeSlotDecoder` can run `mimi` on this machine; else why not, in one line. May compile."""
    device = next(mimi.parameters()).device
    if device.type != "cpu":
        return f"it runs on a CPU, the codec is on {device.type}"
    if any(m.conv.conv.dilation[0] != 1 for m in mimi.decoder.modules() if isinstance(m, StreamingConv1d)):
        return "it has no dilated convolutions"
    parts: Any = mimi  # to a type checker all that a module holds is a tensor or a module
    layers = parts.decoder_transformer.transformer.layers
    if not layers:
        return "it needs a transformer of one layer or more"
    if mimi.encoder_frame_rate == mimi.frame_rate:
        return "it needs more than one position a frame"
    if layers[0].self_attn.context < mimi.encoder_frame_rate / mimi.frame_rate:
        return "it needs a sliding_window of a frame's positions or more"
    try:
        library()
    except StartupError as error:
        return str(error)
    return None


class NativeSlotDecoder:
    """Holds the weights in the kernels' form, threads, and the state of each slot. Not thread-safe.

    A stream's samples depend neither on its mates nor on how its frames are grouped, bit for bit; idle slots cost
    nothing. The Mimi it is made of is not needed any more.
    """

    frames_per_call = 25
    """Of each stream: enough that a call's own cost does not count, few enough that a mate of a stream which is
    replayed does not wait long."""

    def __init__(self, mimi: MimiModel, num_slots: int, num_threads: int, kernels: ctypes.CDLL | None = None) -> None:
        """`kernels` may be ones compiled otherwise. Raises StartupError where `supports` has a reason."""
        if reason := supports(mimi):
            raise StartupError(f"native codec: {reason}")
        self._library = kernels or library()
        if self._library.mimi_description_size() != ctypes.sizeof(DecoderDescription):
            raise StartupError("native codec: the kernels and structures.py disagree on DecoderDescription")
        self._num_codebooks, self._num_codes = mimi.num_codebooks, mimi.cardinality
        self._frame_samples = mimi.frame_size
        self._free = list(reversed(range(num_slots)))
        with torch.inference_mode():
            weights = decoder_weights(mimi)
        self._library.mimi_create.restype = ctypes.c_void_p
        address = self._library.mimi_create(ctypes.byref(describe(weights)), ctypes.c_int64(num_slots), num_threads)
        if not address:
            raise StartupError("native codec: no memory or no threads for it")
        self._decoder = ctypes.c_void_p(address)
        weakref.finalize(self, self._library.mimi_destroy, self._decoder)
        assert self._library.mimi_frame_samples(self._decoder) == self._frame_samples, "the strides make a frame"

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
