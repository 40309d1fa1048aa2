"""The plain step at fixed shapes, so that a CUDA graph can record it."""

from functools import cache

import torch
from torch import Tensor

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.model.adapters.low_rank import RowAdapters
from serve_app.model.csm import Csm
from serve_app.model.sampling import FrameSampler, SamplingPlan

_USUAL_TOP_K = 64


class PlainStaticFrame:
    """Satisfies `graphs.StaticFrame`. Rows that are not running compute too, but write to the spare position, and
    their state stays as it is."""

    def __init__(self, model: Csm, kv: KvCache, state: RowState) -> None:
        codebook_size = model.shape.codebook_size
        self.usual_top_k = min(_USUAL_TOP_K, codebook_size)
        self._model = model
        self._kv = kv
        self._state = state
        self._spare = kv.backbone.shape[4] - 1
        self._row_numbers = torch.arange(kv.backbone.shape[2], device=model.device)
        self._num_running = torch.zeros((), dtype=torch.int64, device=model.device)
        self._depth_kv = cache(lambda num_rows: model.depth_kv(kv.depth_scratch(num_rows)))

    def set_running(self, num_rows: int) -> None:
        self._num_running.fill_(num_rows)

    def __call__(self, num_rows: int, num_readable: int, usual: bool, adapters: RowAdapters | None = None) -> Tensor:
        model, state = self._model, self._state
        is_running = self._row_numbers[:num_rows] < self._num_running
        positions = torch.where(is_running, state.position[:num_rows], self._spare)
        hidden = model.step(
            state.next_input[:num_rows], self._kv.first_rows(num_rows), positions, num_readable, adapters
        )
        shape = model.shape
        sampler = FrameSampler(state.first_rows(num_rows), self._plan(usual), shape.num_codebooks, shape.codebook_size)
        codes = model.draw_frame(hidden, self._depth_kv(num_rows), sampler, adapters)
        state.advance(codes, model.embed_frames(codes), is_running)
        return codes

    def _plan(self, usual: bool) -> SamplingPlan:
        """Covers every request that this kind of graph serves."""
        return SamplingPlan(
            max_top_k=self.usual_top_k if usual else self._model.shape.codebook_size,
            one_top_k=False,
            any_greedy=True,
            all_greedy=False,
            any_top_p=not usual,
            any_penalty=not usual,
        )
