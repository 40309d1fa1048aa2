"""Models forced along the same codes, so that their logits can be compared place by place.

Shapes: P prompt positions, F frames, K codebooks, C codes of a codebook.
"""

import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve_app.engine.engine import Engine
from serve_app.engine.kv_cache import KvCache
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prompt import Prompt
from serve_app.engine.sequence import Sequence
from serve_app.engine.step_choice import StepName, step_maker
from serve_app.messages import Accepted, GenerationRequest, SamplingParams, TokenFrames
from serve_app.model.csm import Csm
from serve_app.model.matrix import QuantizedMatrix
from serve_app.model.memory import Span
from serve_app.settings import EngineSettings


def spoken(model: Csm, prompts: list[Prompt], num_frames: int, step: StepName) -> list[NDArray[np.int64]]:
    """Codes [F, K] that `model` draws after each prompt, with the usual sampling."""
    max_positions = max(prompt.num_positions for prompt in prompts) + num_frames
    settings = EngineSettings(max_batch_size=len(prompts), max_waiting=len(prompts), max_step_ms=0)
    runner = ModelRunner(model, len(prompts), max_positions, make_step=step_maker(step))
    engine = Engine(runner, settings, "benchmark")
    sequences = []
    for seed, prompt in enumerate(prompts):
        sampling = SamplingParams(seed=seed, min_frames=num_frames, max_frames=num_frames)
        request = GenerationRequest(str(seed), "", 0, sampling=sampling)
        kept = replace(prompt, max_frames=num_frames)
        sequences.append(Sequence(request, kept, _ignore, time.monotonic()))
        engine.add(sequences[-1])
    while engine.step():
        pass
    return [sequence.codes.to_array().astype(np.int64) for sequence in sequences]


@torch.inference_mode()
def forced_logits(model: Csm, prompt: Prompt, codes: NDArray[np.int64]) -> Tensor:
    """Before each of `codes` [F, K], given `prompt` and all codes before it: [F, K, C] in float32, on the CPU."""
    frames = torch.from_numpy(codes).to(model.device)
    tokens = torch.cat((_embedded(model, prompt), model.embed_frames(frames[:-1])))
    kv = KvCache(model.shape, len(frames), len(tokens), model.device, model.dtype)
    hidden = model.prefill(tokens, kv.backbone, [Span(0, 0, len(tokens))])[prompt.num_positions - 1 :]
    sampler = _Forced(frames)
    model.draw_frame(hidden, model.depth_memory(kv.depth_scratch(len(frames))), sampler)
    return torch.stack(sampler.seen, dim=1)[..., : model.shape.codebook_size].float().cpu()


def widen(model: Csm) -> None:
    """Hold quantized values in the model's own type, in which they are exact: the answers stay, and come sooner."""
    for transformer in (model.backbone, model.depth):
        blocks = []
        for block in transformer.blocks:
            matrices = {name: getattr(block, name) for name in ("qkv", "out", "gate_up", "down")}
            quantized = {name: m for name, m in matrices.items() if isinstance(m, QuantizedMatrix)}
            wide = {name: replace(m, values=m.values.to(model.dtype)) for name, m in quantized.items()}
            blocks.append(replace(block, **wide))
        transformer.blocks = tuple(blocks)


class _Forced:
    """Satisfies `csm.Sampler`: knows what to draw, and remembers what it was shown."""

    def __init__(self, codes: Tensor) -> None:
        self._codes = codes
        self.seen: list[Tensor] = []

    def draw(self, codebook: int, logits: Tensor) -> Tensor:
        self.seen.append(logits)
        return self._codes[:, codebook]


def _embedded(model: Csm, prompt: Prompt) -> Tensor:
    """[P, H]"""
    ids, frames = (torch.from_numpy(array).to(model.device) for array in (prompt.text_ids, prompt.frames))
    return torch.where((ids >= 0)[:, None], model.embed_text(ids.clamp_min(0)), model.embed_frames(frames))


def _ignore(message: Accepted | TokenFrames | Exception) -> None:
    pass
