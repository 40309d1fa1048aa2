"""Plans the audio decoder's memory on a card before any of it is taken."""

import logging
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self, cast

import torch
from moshi.models.compression import MimiModel
from moshi.modules.seanet import SEANetDecoder
from moshi.modules.streaming import State
from moshi.modules.transformer import RingKVCache
from moshi.quantization.core_vq import EuclideanCodebook
from torch import Tensor

from serve_app.codec.decoder import leave_encoder_out
from serve_app.codec.open_slots import bank_sizes
from serve_app.errors import StartupError
from serve_app.messages import FRAME_SAMPLES
from serve_app.model.device_memory import DeviceMemory, PlanRow, plan_table, shown

_log = logging.getLogger(__name__)

_MOST_SLOTS = 1024
_GRAPHS_PER_BANK = 2
_GRAPH_BYTES = 8 << 20
"""An estimate for some 900 kernels, never measured on a GPU."""
_WIDEST_TENSORS = 6
"""Of a bank's frame, at once. At full size 3.5 were counted without a GPU; cuDNN's workspaces take the rest."""
_LIBRARIES_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class DecoderMemory:
    """What an audio decoder takes, in bytes."""

    weights_bytes: int
    slot_bytes: int
    """A slot's streaming state, codes and samples."""
    activation_bytes: int
    """An estimate, for each row of the one bank that is decoded at a time."""

    @classmethod
    def of(cls, mimi: MimiModel) -> Self:
        """`mimi` may lie on the "meta" device. It is not to be used for anything else."""
        weights = sum(tensor.nbytes for tensor in mimi.state_dict().values())
        # moshi divides each codebook's sums by its counts once, and keeps both.
        codebooks = (module for module in mimi.modules() if isinstance(module, EuclideanCodebook))
        centroids = sum(codebook.embedding_sum.nbytes for codebook in codebooks)
        buffers = mimi.num_codebooks * torch.int64.itemsize + FRAME_SAMPLES * torch.int16.itemsize
        seanet = cast(SEANetDecoder, mimi.decoder)
        widest = seanet.n_filters * FRAME_SAMPLES * torch.float32.itemsize
        return cls(weights + centroids, _state_bytes(mimi) + buffers, _WIDEST_TENSORS * widest)

    def rows(self, num_slots: int) -> list[PlanRow]:
        banks = bank_sizes(num_slots)
        num_graphs = _GRAPHS_PER_BANK * len(banks)
        return [
            PlanRow("weights, codebooks", self.weights_bytes),
            PlanRow(f"streams, {len(banks)} x {banks[0]} slots", sum(banks) * self.slot_bytes),
            PlanRow(f"estimate: {num_graphs} CUDA graphs of {shown(_GRAPH_BYTES)}", num_graphs * _GRAPH_BYTES),
            PlanRow("estimate: workspace", banks[0] * self.activation_bytes + _LIBRARIES_BYTES),
        ]

    def total_bytes(self, num_slots: int) -> int:
        return sum(row.num_bytes for row in self.rows(num_slots))

    def most_slots(self, free_bytes: int) -> int:
        """The largest `codec.max_streams` whose plan fits. 0 where none does."""
        return bisect_right(range(1, _MOST_SLOTS + 1), free_bytes, key=self.total_bytes)


def announce(planned: DecoderMemory, num_slots: int, memory: DeviceMemory) -> None:
    """Log the plan as a table. Raises StartupError with the remedies where it does not fit."""
    total = planned.total_bytes(num_slots)
    table = plan_table([*planned.rows(num_slots), PlanRow("total", total)], memory)
    _log.info("memory plan of the audio decoder:\n%s", table)
    if total > memory.free_bytes:
        raise StartupError(
            f"codec.max_streams {num_slots} needs {shown(total)}, {shown(memory.free_bytes)} are free "
            f"({memory.described}): {', or '.join(_remedies(planned, total, memory))}"
        )


def _remedies(planned: DecoderMemory, total: int, memory: DeviceMemory) -> Iterator[str]:
    """Each is enough by itself."""
    slots, fraction = planned.most_slots(memory.free_bytes), memory.fraction_for(total)
    if slots:
        yield f"{slots} {'slot' if slots == 1 else 'slots'} would fit"
    if fraction:
        yield f"codec.memory_fraction {fraction:g}"
    if not slots and not fraction:
        yield "it needs a larger device"


def _state_bytes(mimi: MimiModel) -> int:
    """Of one slot, counted on one that is thrown away."""
    leave_encoder_out(mimi)
    with torch.inference_mode(), mimi.streaming(1):
        states = mimi.get_streaming_state().values()
        return sum(tensor.nbytes for state in states for tensor in _tensors(state))


def _tensors(state: State) -> Iterator[Tensor]:
    for value in vars(state).values():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, RingKVCache):
            yield from (value.cache, value.end_offset)
