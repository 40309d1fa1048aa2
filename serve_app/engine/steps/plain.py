"""How one frame for all running rows is computed: the plain way, which every faster way must equal."""

from collections.abc import Callable
from typing import Protocol

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.parts import DrawnFrames, PendingFrames
from serve_app.engine.row_state import RowState
from serve_app.model.csm import Csm
from serve_app.model.kv_views import Memory
from serve_app.model.sampling import FrameSampler, SamplingPlan


class FrameStep(Protocol):
    """Computes over the memory of the rows, and advances their state."""

    lookahead: int
    """See `parts.Runner`."""

    def launch(self, num_rows: int, num_readable: int, plan: SamplingPlan) -> PendingFrames:
        """The next frame of the first `num_rows` rows, all of which stand below position `num_readable`."""
        ...


MakeStep = Callable[[Csm, KvCache, RowState], FrameStep]


class PlainStep:
    """The readable step, of torch's own operations; it runs on any device and in any type."""

    def __init__(self, model: Csm, kv: KvCache, state: RowState) -> None:
        self.lookahead = 0
        self._model = model
        self._kv = kv
        self._state = state
        self._depth_memories: dict[int, list[Memory]] = {}

    def launch(self, num_rows: int, num_readable: int, plan: SamplingPlan) -> PendingFrames:
        model, state = self._model, self._state
        hidden = model.step(
            state.next_input[:num_rows], self._kv.first_rows(num_rows), state.position[:num_rows], num_readable
        )
        sampler = FrameSampler(state.first_rows(num_rows), plan, model.shape.num_codebooks, model.shape.codebook_size)
        codes = model.draw_frame(hidden, self._depth_memory(num_rows), sampler)
        state.advance(codes, model.embed_frames(codes))
        return DrawnFrames(codes.cpu().numpy())

    def _depth_memory(self, num_rows: int) -> list[Memory]:
        if num_rows not in self._depth_memories:
            self._depth_memories[num_rows] = self._model.depth_memory(self._kv.depth_scratch(num_rows))
        return self._depth_memories[num_rows]
