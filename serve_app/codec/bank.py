"""A bank: slots that one graph decodes together."""

from collections.abc import Mapping

import numpy as np
import torch
from moshi.models.compression import MimiModel
from numpy.typing import NDArray
from torch import Tensor

from serve_app.codec.bank_device import BankDevice, Graph, Unrecorded
from serve_app.messages import FRAME_SAMPLES

_FULL_SCALE = 32768.0
"""The encoder's, so that sound which goes through both unchanged keeps its samples. +1.0 itself clips to 32767."""
_STANDS_STILL = -1
"""In place of the codes of a row that does not take part."""


class Bank:
    """Owns the streaming state of its rows, and shares Mimi's weights with other banks.

    All input and output lies in fixed memory. So a graph can hold everything between the codes and the samples: the
    look-up in the codebooks, upsampling, transformer, convolutions and rounding.
    """

    def __init__(self, mimi: MimiModel, num_rows: int, device: BankDevice) -> None:
        self._mimi = mimi
        self._device = device
        on = next(mimi.parameters()).device
        with mimi.streaming(num_rows):
            self._state = mimi.get_streaming_state()
        self._codes = torch.zeros(num_rows, mimi.num_codebooks, dtype=torch.int64, device=on)
        self._samples = torch.zeros(num_rows, FRAME_SAMPLES, dtype=torch.int16, device=on)
        self._running, self._opened = torch.zeros(2, num_rows, dtype=torch.bool, device=on)
        self._host_codes, self._host_samples = device.host_like(self._codes), device.host_like(self._samples)
        self._host_opened = device.host_like(self._opened)
        self._rows_opened: list[int] = []
        for state in self._state.values():
            state.exec_mask = self._running  # One for all modules: otherwise each has a copy, and a kernel to fill it.
        self._decode: Graph = Unrecorded(self._decode_frame)
        self._clear: Graph = Unrecorded(self._clear_rows)

    def open(self, row: int) -> None:
        """Have `row` begin with a clean state."""
        self._rows_opened.append(row)

    def launch(self, frames: Mapping[int, NDArray[np.integer]]) -> None:
        """Begin to decode one frame, [codebooks], of each given row. The others stand still."""
        if self._rows_opened:
            self._clear_opened()
        codes = self._host_codes.numpy()
        codes[:] = _STANDS_STILL
        for row, frame in frames.items():
            codes[row] = frame
        self._codes.copy_(self._host_codes, non_blocking=True)
        self._decode.replay()
        self._host_samples.copy_(self._samples, non_blocking=True)

    def samples(self, row: int) -> NDArray[np.int16]:
        """The frame's sound, once the device was waited for."""
        return self._host_samples.numpy()[row].copy()  # The next launch writes there.

    def record(self) -> None:
        """Record the graphs. It leaves something in every row, which opening one clears."""
        self._decode = self._device.record(self._decode_frame)
        self._clear = self._device.record(self._clear_rows)

    def _clear_opened(self) -> None:
        """All rows that were opened since the last frame together: it is some 250 kernels, whatever they clear."""
        self._host_opened.zero_()
        self._host_opened[self._rows_opened] = True
        self._opened.copy_(self._host_opened, non_blocking=True)
        self._clear.replay()
        self._rows_opened.clear()

    def _decode_frame(self) -> None:
        self._mimi.set_streaming_state(self._state)
        torch.ge(self._codes[:, 0], 0, out=self._running)
        # A row that stands still looks its codes up all the same.
        sound: Tensor = self._mimi.decode(self._codes.clamp(min=0)[..., None])
        self._samples.copy_((sound[:, 0] * _FULL_SCALE).round().clamp(-_FULL_SCALE, _FULL_SCALE - 1))

    def _clear_rows(self) -> None:
        self._mimi.set_streaming_state(self._state)
        self._mimi.reset_streaming(self._opened)
