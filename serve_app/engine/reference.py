"""The readable engine, float32 on the CPU with the plain step: what any served configuration is judged by.

Shapes: P prompt positions, F frames, K codebooks, C codes of a codebook.
"""

import os

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.parts import EngineParts
from serve_app.engine.prompt import Prompt
from serve_app.messages import ModelInfo
from serve_app.model.checkpoint import Checkpoint, load_model
from serve_app.model.csm import Csm
from serve_app.model.device import use_threads
from serve_app.model.memory import Span
from serve_app.model.tokenizer import TextTokenizer

_CPU = torch.device("cpu")


class PlainReference:
    """In memory as long as it lives; takes every core."""

    def __init__(self, checkpoint: Checkpoint, max_rows: int) -> None:
        use_threads(len(os.sched_getaffinity(0)))
        shape = checkpoint.shape
        self._model = load_model(checkpoint, _CPU, torch.float32)
        info = ModelInfo(
            model=checkpoint.name,
            weights="random" if checkpoint.random_weights else "trained",
            num_codebooks=shape.num_codebooks,
            codebook_size=shape.codebook_size,
            max_positions=shape.backbone.max_positions,
            device=_CPU.type,
            dtype="float32",
            max_batch_size=max_rows,
        )
        runner = ModelRunner(self._model, max_rows, info.max_positions)
        self.parts = EngineParts(runner, TextTokenizer(checkpoint), info)

    @torch.inference_mode()
    def logits(self, prompt: Prompt, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Before each of `codes` [F, K], given `prompt` and all codes before it: [F, K, C]."""
        model, num_frames = self._model, len(codes)
        frames = torch.from_numpy(codes.astype(np.int64))
        tokens = torch.cat((_embedded(model, prompt), model.embed_frames(frames[:-1])))
        kv = KvCache(model.shape, num_frames, len(tokens), model.device, model.dtype)
        hidden = model.prefill(tokens, kv.backbone, [Span(0, 0, len(tokens))])[prompt.num_positions - 1 :]
        forced = _Forced(frames)
        model.draw_frame(hidden, model.depth_memory(kv.depth_scratch(num_frames)), forced)
        return torch.stack(forced.seen, dim=1)[..., : model.shape.codebook_size].numpy()


class _Forced:
    """A sampler that knows what to draw, and remembers what it was shown."""

    def __init__(self, codes: Tensor) -> None:
        self._codes = codes
        self.seen: list[Tensor] = []

    def draw(self, codebook: int, logits: Tensor) -> Tensor:
        self.seen.append(logits)
        return self._codes[:, codebook]


def _embedded(model: Csm, prompt: Prompt) -> Tensor:
    """[P, H]"""
    ids, frames = torch.from_numpy(prompt.text_ids), torch.from_numpy(prompt.frames)
    is_text = (ids >= 0)[:, None]
    text = F.embedding(ids.clamp_min(0), model.text_embedding)
    return torch.where(is_text, text, model.embed_frames(frames))
