"""Requests of known lengths. Codes are random: what a context says does not change what it costs."""

import numpy as np
from transformers import CsmConfig

from benchmarks.engine.random_model import ByteTokenizer
from serve_app.engine.prompt import ModelLimits, Prompt, build_prompt
from serve_app.messages import Codes, ContextSegment, GenerationRequest, SamplingParams
from serve_app.model.shape import CsmShape

CLIP_FRAMES = 376
"""A voice's clip of 30 seconds."""
_TRANSCRIPT = "What is said in it."


class Prompts:
    def __init__(self, config: CsmConfig) -> None:
        shape = CsmShape.from_config(config)
        self.tokenizer = ByteTokenizer(config)
        self.limits = ModelLimits(shape.num_codebooks, shape.codebook_size, shape.backbone.max_positions)

    def voice(self, num_frames: int, seed: int) -> ContextSegment:
        sizes = (num_frames, self.limits.num_codebooks)
        codes = np.random.default_rng(seed).integers(1, self.limits.codebook_size, sizes)
        return ContextSegment(_TRANSCRIPT, 0, Codes.from_array(codes), anchor=True)

    def voice_of(self, num_positions: int, text: str, seed: int) -> ContextSegment:
        """One that makes the prompt of `text` so many positions long. Raises ValueError where there is no room."""
        taken = len(self.tokenizer.encode(0, text)) + len(self.tokenizer.encode(0, _TRANSCRIPT)) + 1
        if num_positions <= taken:
            raise ValueError(f"{num_positions} positions: the text and a transcript take {taken}")
        return self.voice(num_positions - taken, seed)

    def built(self, request: GenerationRequest) -> Prompt:
        return build_prompt(request, self.tokenizer, self.limits)


def request_for(text: str, *context: ContextSegment, seed: int = 0, num_frames: int = 1) -> GenerationRequest:
    """One that speaks for exactly `num_frames`."""
    sampling = SamplingParams(seed=seed, min_frames=num_frames, max_frames=num_frames)
    return GenerationRequest(f"r{seed}", text, 0, context, sampling)
