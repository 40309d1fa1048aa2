"""The decode step of our C++ kernel, on a CPU."""

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.engine.runner import DrawnFrames, PendingFrames
from serve_app.engine.steps.plain import AdaptersByRow
from serve_app.engine.steps.prefill import PlainPrefill, Prefill
from serve_app.model.csm import Csm
from serve_app.model.native.frame import NativeFrame
from serve_app.model.sampling import SamplingPlan


class NativeStep:
    """Satisfies `plain.FrameStep`."""

    def __init__(self, model: Csm, kv: KvCache, state: RowState, num_threads: int) -> None:
        self.lookahead = 0
        self.prefill: Prefill = PlainPrefill(model, kv)
        self._frame = NativeFrame(model, kv.backbone, state.next_input, state.position, state.sampling, num_threads)

    def launch(
        self, num_rows: int, num_readable: int, plan: SamplingPlan, adapters: AdaptersByRow = ()
    ) -> PendingFrames:
        """See `FrameStep.launch`. Ignores the plan and the longest row: each row's state holds its parameters."""
        return DrawnFrames(self._frame.step(num_rows, adapters).numpy())
