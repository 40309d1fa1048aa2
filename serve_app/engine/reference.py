"""The reference for served configurations: the engine in float32 on the CPU with the plain step.

`forced_logits` runs any model along given codes, so that logits can be compared position by position.

Shapes: P prompt positions, F frames, K codebooks, C codes of a codebook.
"""

import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prompt import Prompt
from serve_app.engine.runner import EngineParts
from serve_app.messages import ModelInfo
from serve_app.model.checkpoint import Checkpoint, load_model
from serve_app.model.csm import Csm
from serve_app.model.device import use_threads
from serve_app.model.kv_views import TokenRange
from serve_app.model.tokenizer import TextTokenizer

_CPU = torch.device("cpu")


class PlainReference:
    """Keeps the model in memory for its lifetime, and uses every core."""

    def __init__(self, checkpoint: Checkpoint, max_rows: int) -> None:
        use_threads(len(os.sched_getaffinity(0)))
        shape = checkpoint.shape
        self._model = load_model(checkpoint, _CPU, torch.float32)
        info = ModelInfo(
            model=checkpoint.name,
            weights=checkpoint.weights,
            num_codebooks=shape.num_codebooks,
            codebook_size=shape.codebook_size,
            max_positions=shape.backbone.max_positions,
            device=_CPU.type,
            dtype="float32",
            max_batch_size=max_rows,
        )
        runner = ModelRunner(self._model, max_rows, info.max_positions)
        self.parts = EngineParts(runner, TextTokenizer(checkpoint), info)

    def logits(self, prompt: Prompt, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `forced_logits`."""
        return forced_logits(self._model, prompt, codes).numpy()


@torch.inference_mode()
def forced_logits(model: Csm, prompt: Prompt, codes: NDArray[np.int64]) -> Tensor:
    """The logits of each of `codes` [F, K], given `prompt` and all codes before it: [F, K, C], float32 on the CPU."""
    frames = torch.from_numpy(codes.astype(np.int64)).to(model.device)
    tokens = torch.cat((_embedded(model, prompt), model.embed_frames(frames[:-1])))
    kv = KvCache(model.shape, len(frames), len(tokens), model.device, model.dtype)
    hidden = model.prefill(tokens, kv.backbone, [TokenRange(0, 0, len(tokens))])[prompt.num_positions - 1 :]
    forced = _Forced(frames)
    model.draw_frame(hidden, model.depth_kv(kv.depth_scratch(len(frames))), forced)
    return torch.stack(forced.seen, dim=1)[..., : model.shape.codebook_size].float().cpu()


class _Forced:
    """A sampler that draws given codes, and keeps the logits it was given."""

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
