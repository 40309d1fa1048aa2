"""Random weights for tests: every tensor of a CSM checkpoint as a function of (seed, name), made one at a time.

With default initialisation, layers are so weak that a wrong rotary embedding changes no token. With these weights
attention is selective, every block changes the hidden state, and logits are neither flat nor certain.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import CsmConfig, MimiConfig

from serve_app.model.weights import AUDIO_TABLES, CODEC_PREFIX

_TARGET_RMS = 0.05
"""The RMS of decoded random codes (-26 dBFS), so that the noise is bearable."""
_CALIBRATION_FRAMES = 16

_NESTED = re.compile(
    r"^codec_model\.(?:en|de)coder\.(?:(?P<seanet>(en|de)coder)_seanet|(?P<kept>\w+_transformer|downsample|upsample))\."
)


@dataclass(frozen=True, slots=True)
class RandomTensor:
    """A stored tensor and the normal distribution that fills it."""

    name: str
    shape: tuple[int, ...]
    mean: float
    std: float

    def make(self, seed: int) -> Tensor:
        if self.std == 0:
            return torch.full(self.shape, self.mean)
        # Both names of the tied table must get the same numbers.
        name = AUDIO_TABLES[0] if self.name in AUDIO_TABLES else self.name
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
        return torch.randn(self.shape, generator=generator).mul_(self.std).add_(self.mean)


def random_tensors(config: CsmConfig, seed: int) -> list[RandomTensor]:
    """All tensors of the checkpoint by their names on disk, in the model's order. No weight is held in memory."""
    # Imported here, because importing transformers' models takes seconds.
    from transformers import CsmForConditionalGeneration

    codec = config.codec_config
    assert isinstance(codec, MimiConfig)
    with torch.device("meta"):
        model = CsmForConditionalGeneration(config)
    upsamplers = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.ConvTranspose1d)}
    tensors = [
        _plan(stored_name(name), tuple(value.shape), name in upsamplers) for name, value in model.state_dict().items()
    ]
    return list(_with_audible_output(tensors, codec, seed))


def stored_name(name: str) -> str:
    """The flat name on disk. In memory, recent versions of transformers nest Mimi's names."""
    return _NESTED.sub(lambda match: f"{CODEC_PREFIX}{match['seanet'] or match['kept']}.", name)


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str
    mean: float
    std: float
    """Of the entries. With `by_fan_in`, of the layer's output for inputs of variance 1."""
    by_fan_in: bool = False


_RULES = (
    _Rule(r"(layer_scale\.scale|cluster_usage|initialized)$", 1.0, 0.0),
    _Rule(r"norm\.weight$", 1.0, 0.1),
    # Larger biases would drown the sound in the codec's encoder.
    _Rule(r"\.bias$", 0.0, 0.03),
    _Rule(r"(embed_sum|embed_text_tokens\.weight)$", 0.0, 1.0),
    # A frame is the sum of 32 rows, so that it gets the size of a text token's row.
    _Rule(r"(embed_audio_tokens|embed_tokens)\.weight$", 0.0, 32**-0.5),
    _Rule(r"(lm_head|codebooks_head)\.weight$", 0.0, 2.0, by_fan_in=True),
    _Rule(r"[qk]_proj\.weight$", 0.0, 1.5, by_fan_in=True),
    # Speech has an RMS near 0.1.
    _Rule(r"codec_model\.encoder\.layers\.0\.conv\.weight$", 0.0, 10.0, by_fan_in=True),
    _Rule(r"", 0.0, 1.0, by_fan_in=True),
)
"""The first matching rule applies."""


def _plan(name: str, shape: tuple[int, ...], is_upsampler: bool) -> RandomTensor:
    rule = next(rule for rule in _RULES if re.search(rule.pattern, name))
    std = rule.std * _fan_in(name, shape, is_upsampler) ** -0.5 if rule.by_fan_in else rule.std
    return RandomTensor(name, shape, rule.mean, std)


def _fan_in(name: str, shape: tuple[int, ...], is_upsampler: bool) -> int:
    if name.endswith("codebooks_head.weight"):
        return shape[1]
    if is_upsampler:
        # Kernels are two strides long, so two taps meet in a sample. One output a group means one input a group.
        return 2 * (1 if shape[1] == 1 else shape[0])
    return math.prod(shape[1:])


def _with_audible_output(tensors: list[RandomTensor], codec: MimiConfig, seed: int) -> Iterator[RandomTensor]:
    layers = [int(m[1]) for t in tensors if (m := re.match(r"codec_model\.decoder\.layers\.(\d+)\.conv\.", t.name))]
    last = f"{CODEC_PREFIX}decoder.layers.{max(layers)}.conv."
    gain = _TARGET_RMS / _decoded_rms(tensors, codec, seed)
    # Two digits, so that the weights do not depend on a machine's rounding.
    gain = float(f"{gain:.1e}")
    for tensor in tensors:
        yield replace(tensor, std=tensor.std * gain) if tensor.name.startswith(last) else tensor


def _decoded_rms(tensors: list[RandomTensor], config: MimiConfig, seed: int) -> float:
    from transformers import MimiModel

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        codec = MimiModel(config).eval()
        by_name = {tensor.name: tensor for tensor in tensors}
        for name, value in codec.state_dict().items():
            value.copy_(by_name[stored_name(CODEC_PREFIX + name)].make(seed))
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randint(
            config.codebook_size, (1, config.num_quantizers, _CALIBRATION_FRAMES), generator=generator
        )
        audio = codec.decode(codes)[0]
    return float(audio.square().mean().sqrt())
