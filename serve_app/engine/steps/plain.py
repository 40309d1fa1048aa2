"""The plain decode step, which computes one frame for all running rows. Every faster step must equal it."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.engine.runner import DrawnFrames, PendingFrames
from serve_app.engine.steps.prefill import PlainPrefill, Prefill
from serve_app.model.adapters.low_rank import LoadedAdapter, adapters_of_rows
from serve_app.model.csm import Csm
from serve_app.model.sampling import FrameSampler, SamplingPlan

AdaptersByRow = Sequence[LoadedAdapter | None]


class FrameStep(Protocol):
    """Computes frames over the KV memory of the rows, and advances their state."""

    lookahead: int
    """See `runner.Runner`."""
    prefill: Prefill
    """Reads prompts into that memory."""

    def launch(
        self, num_rows: int, num_readable: int, plan: SamplingPlan, adapters: AdaptersByRow = ()
    ) -> PendingFrames:
        """Start the next frame of the first `num_rows` rows, whose positions are all below `num_readable`.

        `adapters` names each row's, and is empty where no row has one.
        """
        ...


MakeStep = Callable[[Csm, KvCache, RowState], FrameStep]


class PlainStep:
    """Made of torch's own operations. It runs on any device and in any type."""

    def __init__(self, model: Csm, kv: KvCache, state: RowState) -> None:
        self.lookahead = 0
        self.prefill: Prefill = PlainPrefill(model, kv)
        self._model = model
        self._kv = kv
        self._state = state
        self._depth_kv = cache(lambda num_rows: model.depth_kv(kv.depth_scratch(num_rows)))

    def launch(
        self, num_rows: int, num_readable: int, plan: SamplingPlan, adapters: AdaptersByRow = ()
    ) -> PendingFrames:
        model, state = self._model, self._state
        own = adapters_of_rows(adapters, model.device)
        hidden = model.step(
            state.next_input[:num_rows], self._kv.first_rows(num_rows), state.position[:num_rows], num_readable, own
        )
        sampler = FrameSampler(state.first_rows(num_rows), plan, model.shape.num_codebooks, model.shape.codebook_size)
        codes = model.draw_frame(hidden, self._depth_kv(num_rows), sampler, own)
        state.advance(codes, model.embed_frames(codes))
        return DrawnFrames(codes.cpu().numpy())
