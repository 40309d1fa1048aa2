"""Codes to sound by moshi: a fixed number of streams in banks, decoded together one frame at a time."""

import logging
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from moshi.models.compression import MimiModel
from moshi.modules.streaming import StreamingModule
from numpy.typing import NDArray

from serve_app.codec.bank import Bank
from serve_app.codec.bank_device import BankDevice, bank_device
from serve_app.codec.open_slots import BANK_SLOTS, OpenSlots, bank_sizes
from serve_app.model.cuda_graphs import garbage_collection_off

_log = logging.getLogger(__name__)


class SlotDecoder:
    """Owns a Mimi and its streaming state, one row a slot. Not thread-safe.

    The reference of `native.decoder.NativeSlotDecoder`, and what runs where that cannot. A step decodes one frame of
    all slots of each bank that takes part, because CUDA graphs want one shape. So a stream's samples depend neither on
    its mates, nor on when it was opened, nor on how its frames are grouped, bit for bit. A bank without a frame costs
    nothing.
    """

    frames_per_call = 1
    """Of each stream. More would only make its mates wait."""

    def __init__(
        self, mimi: MimiModel, num_slots: int, bank_slots: int = BANK_SLOTS, device: BankDevice | None = None
    ) -> None:
        """`device`: None for the one that `mimi` is on."""
        self._device = device or bank_device(next(mimi.parameters()).device)
        self._num_codes = mimi.cardinality
        leave_encoder_out(mimi)
        sizes = bank_sizes(num_slots, bank_slots)
        self._bank_slots = sizes[0]
        self._open = OpenSlots(num_slots, self._bank_slots)
        with torch.inference_mode():
            self._banks = [Bank(mimi, size, self._device) for size in sizes]

    @property
    def num_free(self) -> int:
        return self._open.num_free

    def open(self) -> int | None:
        """A slot that begins with a clean state, or None when all are taken."""
        slot = self._open.open()
        if slot is not None:
            bank, row = divmod(slot, self._bank_slots)
            self._banks[bank].open(row)
        return slot

    def close(self, slot: int) -> None:
        self._open.close(slot)

    def decode(self, frames: Mapping[int, NDArray[np.integer]]) -> dict[int, NDArray[np.int16]]:
        """Decode the next frames, [frames, codebooks], of each given slot to their samples. Others stand still."""
        assert frames.keys() <= self._open.slots, "only open slots are decoded"
        parts: dict[int, list[NDArray[np.int16]]] = {slot: [] for slot in frames}
        for number in range(max(map(len, frames.values()), default=0)):
            running = {slot: part[number] for slot, part in frames.items() if number < len(part)}
            for slot, samples in self._step(running).items():
                parts[slot].append(samples)
        return {slot: np.concatenate(part) for slot, part in parts.items()}

    @torch.inference_mode()
    def warm_up(self) -> None:
        """On CUDA, record each bank's graphs."""
        assert not self._open.slots, "warm-up leaves something in every slot"
        with garbage_collection_off():
            for bank in self._banks:
                bank.record()
        _log.info("codec: %d banks of %d slots are ready", len(self._banks), self._bank_slots)

    @torch.inference_mode()
    def _step(self, frames: Mapping[int, NDArray[np.integer]]) -> dict[int, NDArray[np.int16]]:
        """The sound of one frame, [codebooks], of each given slot."""
        # On CUDA an id out of range would poison the whole process.
        codes = np.stack(list(frames.values()))
        assert 0 <= codes.min() <= codes.max() < self._num_codes, "the engine masks ids that Mimi does not have"
        by_bank: defaultdict[int, dict[int, NDArray[np.integer]]] = defaultdict(dict)
        for slot, frame in frames.items():
            bank, row = divmod(slot, self._bank_slots)
            by_bank[bank][row] = frame
        for bank, rows in by_bank.items():
            self._banks[bank].launch(rows)
        self._device.wait()
        return {slot: self._banks[slot // self._bank_slots].samples(slot % self._bank_slots) for slot in frames}


def leave_encoder_out(mimi: MimiModel) -> None:
    """Of what streams. Its half of the state is never used, and would cost about 8 MB a slot at full size."""
    for half in (mimi.encoder, mimi.encoder_transformer, mimi.downsample):
        for module in half.modules() if half else ():
            if isinstance(module, StreamingModule):
                module.set_streaming_detached(True)
