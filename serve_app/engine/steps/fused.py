"""The decode step of our Triton kernels, which a CUDA graph records."""

import torch
from torch import Tensor

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.model.csm import Csm
from serve_app.model.kernels.arguments import FrameRows
from serve_app.model.kernels.frame import FusedFrame
from serve_app.model.kernels.launch import dependent_launches


class FusedStaticFrame:
    """Satisfies `graphs.StaticFrame`. One kind of graph serves all: its sampler reads each row's parameters."""

    def __init__(self, model: Csm, kv: KvCache, state: RowState, dependent: bool = False) -> None:
        """`dependent`: see `model.kernels.dependent`."""
        self.usual_top_k = 0
        self._is_dependent = dependent
        self._num_running = torch.zeros(1, dtype=torch.int64, device=model.device)
        self._frame = FusedFrame(model, kv.backbone.shape[2])
        self._rows = FrameRows(kv.backbone, state.next_input, state.position, state.sampling, self._num_running)

    def set_running(self, num_rows: int) -> None:
        self._num_running.fill_(num_rows)

    def __call__(self, num_rows: int, num_readable: int, usual: bool) -> Tensor:
        with dependent_launches(self._is_dependent):
            return self._frame(num_rows, num_readable, self._rows)
