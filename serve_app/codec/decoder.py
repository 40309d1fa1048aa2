"""Codes to sound by moshi: a fixed number of streams, decoded together one frame at a time."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from moshi.models.compression import MimiModel
from moshi.modules.streaming import StreamingModule
from numpy.typing import NDArray
from torch import Tensor

_FULL_SCALE = 32768.0
"""The encoder's, so that sound which goes through both unchanged keeps its samples. +1.0 itself clips to 32767."""


class SlotDecoder:
    """Owns a Mimi and its streaming state, one row a slot. Not thread-safe.

    The reference of `native.decoder.NativeSlotDecoder`, and what runs where that cannot. Every step decodes one frame
    at the full number of slots, whichever take part: CUDA graphs want one shape, and so a stream's samples depend
    neither on its mates, nor on when it was opened, nor on how its frames are grouped, bit for bit.
    """

    frames_per_call = 1
    """Of each stream. More would only make its mates wait."""

    def __init__(self, mimi: MimiModel, num_slots: int) -> None:
        self._mimi = mimi
        self._num_slots = num_slots
        self._device = next(mimi.parameters()).device
        self._free = list(reversed(range(num_slots)))
        self._unclean: set[int] = set()
        _leave_encoder_out(mimi)
        with torch.inference_mode():
            mimi.streaming_forever(num_slots)

    @property
    def num_free(self) -> int:
        return len(self._free)

    def open(self) -> int | None:
        """A slot that begins with a clean state, or None when all are taken."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._unclean.add(slot)
        return slot

    def close(self, slot: int) -> None:
        assert slot not in self._free, f"slot {slot} is not open"
        self._free.append(slot)

    def decode(self, frames: Mapping[int, NDArray[np.integer]]) -> dict[int, NDArray[np.int16]]:
        """Decode the next frames, [frames, codebooks], of each given slot to their samples. Others stand still."""
        assert not frames.keys() & set(self._free), "only open slots are decoded"
        if self._unclean:
            # Those that were opened since together: a reset is some 245 kernels, whatever it clears.
            self._reset(self._unclean)
            self._unclean.clear()
        parts: dict[int, list[NDArray[np.int16]]] = {slot: [] for slot in frames}
        for number in range(max(map(len, frames.values()), default=0)):
            running = {slot: part[number] for slot, part in frames.items() if number < len(part)}
            samples = self._step(running)
            for slot in running:
                parts[slot].append(samples[slot])
        return {slot: np.concatenate(part) for slot, part in parts.items()}

    def warm_up(self) -> None:
        """Two decodes: on CUDA the first one prepares and the second one captures the graphs."""
        assert self.num_free == self._num_slots, "warm-up clears every slot"
        silence = np.zeros(self._mimi.num_codebooks, dtype=np.int64)
        for _ in range(2):
            self._step(dict.fromkeys(range(self._num_slots), silence))
        self._reset(range(self._num_slots))

    @torch.inference_mode()
    def _step(self, frames: Mapping[int, NDArray[np.integer]]) -> NDArray[np.int16]:
        # An idle row still looks its codes up: zeros are valid, what a stream left there need not be.
        codes = np.zeros((self._num_slots, self._mimi.num_codebooks, 1), dtype=np.int64)
        running = np.zeros(self._num_slots, dtype=np.bool_)
        for slot, frame in frames.items():
            codes[slot, :, 0] = frame
            running[slot] = True
        # On CUDA an id out of range would poison the whole process.
        assert 0 <= codes.min() <= codes.max() < self._mimi.cardinality, "the engine masks ids that Mimi does not have"
        self._mimi.set_exec_mask(torch.from_numpy(running))
        sound = self._mimi.decode(torch.from_numpy(codes).to(self._device))
        return _to_int16(sound[:, 0]).cpu().numpy()

    @torch.inference_mode()
    def _reset(self, slots: Iterable[int]) -> None:
        # This also marks the rows as running, so it must come before a step sets its mask, never between.
        mask = torch.zeros(self._num_slots, dtype=torch.bool)
        mask[list(slots)] = True
        self._mimi.reset_streaming(mask)


def _to_int16(sound: Tensor) -> Tensor:
    return (sound * _FULL_SCALE).round().clamp(-_FULL_SCALE, _FULL_SCALE - 1).to(torch.int16)


def _leave_encoder_out(mimi: MimiModel) -> None:
    # Its half of the state is never used, and would cost about 8 MB a slot at full size.
    for half in (mimi.encoder, mimi.encoder_transformer, mimi.downsample):
        for module in half.modules() if half else ():
            if isinstance(module, StreamingModule):
                module.set_streaming_detached(True)
