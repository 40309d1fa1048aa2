"""transformers' `generate` on the very weights that ours has: its parameters are views of them."""

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import CsmConfig, CsmForConditionalGeneration, DynamicCache
from transformers.initialization import no_init_weights

from serve_app.model.csm import Csm
from serve_app.model.weights import AUDIO_TABLES, destinations

VARIANTS = ("eager", "static")
"""`static`: static caches for both models, which makes transformers compile their forward passes (CUDA only)."""
_HEADS = "depth_decoder.codebooks_head.weight"


class TransformersStep:
    """A frame's time is that between two calls of the streamer, so that neither prompt nor set-up counts."""

    def __init__(self, model: Csm, config: CsmConfig, variant: str) -> None:
        self.engine = "transformers"
        self.variant = variant
        self._csm = model
        self._model = twin_of(model, config)
        if variant == "static":
            self._model.generation_config.cache_implementation = "static"
            self._model.depth_decoder.generation_config.cache_implementation = "static"

    def frame_ms(self, batch: int, kv: int, num_steps: int) -> list[float]:
        """Of each of `num_steps` frames of `batch` rows, the last of which reads `kv` positions."""
        clock = _Clock()
        num_positions = kv - num_steps
        ids = torch.zeros(batch, num_positions, dtype=torch.int64, device=self._csm.device)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.variant == "eager":
            # It need not read a prompt: of that only the last token is given.
            inputs |= {"input_ids": ids[:, -1:], self._cache_name: self._cache(batch, num_positions - 1)}
        reserved = list(range(self._csm.shape.codebook_size, self._csm.shape.vocab_size))
        sampling = {"do_sample": True, "top_k": 50, "temperature": 0.9, "suppress_tokens": reserved}
        depth = {f"depth_decoder_{name}": value for name, value in sampling.items()}
        self._model.generate(**inputs, max_new_tokens=num_steps + 1, streamer=clock, **sampling, **depth)
        # The first call brings the prompt, the second the frame that is drawn right after it.
        return [(after - before) * 1000 for before, after in pairwise(clock.times[1:])]

    @property
    def _cache_name(self) -> str:
        """It was renamed between versions."""
        takes = inspect.signature(self._model.prepare_inputs_for_generation).parameters
        return "cache" if "cache" in takes else "past_key_values"

    def _cache(self, batch: int, num_positions: int) -> DynamicCache:
        cache, backbone = DynamicCache(config=self._model.config), self._csm.shape.backbone
        sizes = (batch, backbone.num_kv_heads, num_positions, backbone.head_dim)
        for layer in range(backbone.num_layers):
            keys, values = torch.randn(2, *sizes, device=self._csm.device, dtype=self._csm.dtype)
            cache.update(keys, values, layer)
        return cache


class _Clock:
    """Satisfies transformers' streamer."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, codes: Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


def twin_of(model: Csm, config: CsmConfig) -> Any:
    """transformers' model with the weights of `model`, not copies of them; its codec is empty and must not be run."""
    transformers.logging.set_verbosity_error()
    with _default_dtype(model.dtype), no_init_weights(), model.device:
        theirs = CsmForConditionalGeneration(config)
    weights = {name: place(model) for name, place in destinations(model.shape).items()}
    weights[AUDIO_TABLES[1]] = weights[AUDIO_TABLES[0]]  # ours is empty once it was folded
    # Stored the other way around there, and read so: a view of ours would slow it down.
    weights[_HEADS] = weights[_HEADS].contiguous()
    unexpected = theirs.load_state_dict(weights, strict=False, assign=True).unexpected_keys
    assert not unexpected, f"transformers has no {unexpected}"
    theirs.tie_weights()
    return theirs.eval()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
