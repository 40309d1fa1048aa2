"""How prompts are read: what every way has in common, and the plain way, which every faster one must equal."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from serve_app.engine.kv_cache import KvCache
from serve_app.model.adapters.low_rank import LoadedAdapter, adapters_of_tokens
from serve_app.model.csm import Csm
from serve_app.model.device import send
from serve_app.model.kv_views import TokenRange

_CUDA_BUCKET = 64
"""On CUDA a pass is padded to a multiple of this, because libraries choose kernels anew for every new shape."""


class PromptChunks(NamedTuple):
    """T positions of several prompts, one range after the other."""

    text_ids: NDArray[np.int64]
    """[T]. -1 where the position is a frame."""
    frames: NDArray[np.int64]
    """[T, K]"""
    ranges: Sequence[TokenRange]
    adapters: Sequence[LoadedAdapter | None]
    """Each range's."""


class Prefill(Protocol):
    def read(self, chunks: PromptChunks) -> None:
        """Write the keys and values of these positions to the rows' memory, without waiting for the device."""
        ...


class PlainPrefill:
    """Made of torch's own operations. It runs on any device and in any type, and with adapters."""

    def __init__(self, model: Csm, kv: KvCache) -> None:
        self._model = model
        self._kv = kv

    def read(self, chunks: PromptChunks) -> None:
        model = self._model
        pairs = zip(chunks.adapters, chunks.ranges, strict=True)
        own = [adapter for adapter, tokens in pairs for _ in range(tokens.num_tokens)]
        padding = -len(chunks.text_ids) % _CUDA_BUCKET if model.device.type == "cuda" else 0
        embedded = F.pad(embed(model, chunks.text_ids, chunks.frames), (0, 0, 0, padding))
        model.prefill(embedded, self._kv.backbone, chunks.ranges, adapters_of_tokens(own, model.device))


def embed(model: Csm, text_ids: NDArray[np.int64], frames: NDArray[np.int64]) -> Tensor:
    """Text ids [T], and codes [T, K] where the id is -1, to [T, H]."""

    def on_device(array: NDArray[np.int64]) -> Tensor:
        return send(torch.from_numpy(array), model.device)

    embedded = torch.empty(len(text_ids), model.shape.backbone.hidden_size, device=model.device, dtype=model.dtype)
    # The indices are found on the host: finding them on the device would make the host wait for it.
    text_at, frames_at = np.flatnonzero(text_ids >= 0), np.flatnonzero(text_ids < 0)
    embedded[on_device(text_at)] = model.embed_text(on_device(text_ids[text_at]))
    embedded[on_device(frames_at)] = model.embed_frames(on_device(frames[frames_at]))
    return embedded
