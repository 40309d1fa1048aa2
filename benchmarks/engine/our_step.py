"""The engine's step: admitting, launching and handing out included, with rows that stand where a run wants them."""

import time
from collections.abc import Sequence

import numpy as np
import torch

from serve_app.engine.engine import Engine
from serve_app.engine.kv_cache import KvCache
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prompt import Prompt
from serve_app.engine.row_state import RowState
from serve_app.engine.sequence import Sequence as EngineSequence
from serve_app.engine.steps.plain import FrameStep, MakeStep
from serve_app.messages import GenerationRequest, SamplingParams
from serve_app.model.adapters.low_rank import LoadedAdapter
from serve_app.model.csm import Csm
from serve_app.settings import EngineSettings

WARM_UP_STEPS = 2
_NEVER = 1 << 30


class OurStep:
    """Keys and values are random and there from the start: to read a prompt is not what is measured."""

    def __init__(self, model: Csm, make_step: MakeStep, max_batch: int, max_kv: int, variant: str) -> None:
        def make(model: Csm, kv: KvCache, state: RowState) -> FrameStep:
            kv.backbone[..., :max_kv, :].normal_()
            return make_step(model, kv, state)

        self.engine = "csm-serve"
        self.variant = variant
        self._shape = model.shape
        self._settings = EngineSettings(
            max_batch_size=max_batch,
            max_waiting=max_batch,
            prefill_chunk_tokens=2 * max_batch + 16,
            repeated_frames_limit=_NEVER,
            max_step_ms=0,
        )
        with torch.inference_mode():
            self._runner = ModelRunner(model, max_batch, max_kv, make_step=make)

    def frame_ms(
        self, batch: int, kv: int, num_steps: int, adapters: Sequence[LoadedAdapter] | None = None
    ) -> list[float]:
        """Of each of `num_steps` steps of `batch` rows, the last of which reads `kv` positions."""
        engine = Engine(self._runner, self._settings, "benchmark")
        num_positions = kv - (WARM_UP_STEPS + num_steps) + 1
        for row in range(batch):
            engine.add(self._sequence(row, num_positions, adapters[row] if adapters else None))
        for _ in range(WARM_UP_STEPS):
            engine.step()
        times = []
        for _ in range(num_steps):
            started = time.perf_counter()
            engine.step()
            times.append((time.perf_counter() - started) * 1000)
        return times

    def _sequence(self, row: int, num_positions: int, adapter: LoadedAdapter | None) -> EngineSequence:
        """One that has read all of its prompt."""
        request = GenerationRequest(str(row), "", 0, sampling=SamplingParams(seed=row, min_frames=_NEVER))
        ids = np.random.default_rng(row).integers(0, 256, num_positions)
        frames = np.zeros((num_positions, self._shape.num_codebooks), dtype=np.int64)
        prompt = Prompt(ids, frames, 0, _NEVER, 0)
        return EngineSequence(
            request, prompt, lambda message: None, time.monotonic(), adapter, num_prefilled=num_positions - 1
        )
