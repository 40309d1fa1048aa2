"""Models with random weights made where they are needed, without a file: nothing is read, nothing is kept on disk."""

import torch
from transformers import CsmConfig, MimiConfig

from benchmarks.engine.precision import Precision
from serve_app.model.csm import Csm
from serve_app.model.presets import Preset, preset_config
from serve_app.model.random_weights import random_tensors
from serve_app.model.shape import CsmShape
from serve_app.model.weights import AUDIO_TABLES, CODEC_PREFIX, destinations


def config_of(preset: Preset) -> CsmConfig:
    """The preset's language model. The full size gets the small one's codec: it is not run here, and sooner planned."""
    if preset != "csm-1b":
        return preset_config(preset)
    codec = preset_config("small").codec_config
    assert isinstance(codec, MimiConfig), "CsmConfig makes it one"
    return preset_config(preset, {"codec_config": codec.to_dict()})


def random_model(preset: Preset, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Csm:
    """The same numbers for every type, rounded to it; others on another kind of device."""
    config = config_of(preset)
    model = Csm(CsmShape.from_config(config), device, dtype)
    places = destinations(model.shape)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for tensor in random_tensors(config, seed):
            # The tied table has two names.
            if tensor.name.startswith(CODEC_PREFIX) or tensor.name == AUDIO_TABLES[1]:
                continue
            drawn = torch.empty(tensor.shape, device=device)
            places[tensor.name](model).copy_(drawn.normal_(tensor.mean, tensor.std, generator=generator))
    model.depth_table.copy_(model.audio_embedding)
    model.fold()
    return model


def quantized_model(preset: Preset, device: torch.device, precision: Precision) -> Csm:
    model = random_model(preset, device, precision.dtype)
    model.quantize(precision.quantization)
    return model


class ByteTokenizer:
    """Satisfies `prompt.Tokenizer`: one token a byte, as the tokenizers that `create` makes."""

    def __init__(self, config: CsmConfig) -> None:
        assert config.bos_token_id is not None
        self._bos = config.bos_token_id

    def encode(self, speaker: int, text: str) -> list[int]:
        return [self._bos, *f"[{speaker}]{text}".encode(), self._bos + 1]

    def text_of(self, num_tokens: int) -> str:
        """A text that comes to so many tokens, for a speaker of one digit."""
        words = "the quick brown fox jumps over the lazy dog and says so and "
        num_bytes = num_tokens - len(self.encode(0, ""))
        return (words * (num_bytes // len(words) + 1))[:num_bytes]
