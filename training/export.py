"""Step 4: what was learnt, in the Hub's layout. `python -m training.export --folder build/demo-voice`

The codec's numbers go from moshi's names back to transformers': the server's own map of the two only moves numbers, so
each is numbered, mapped, and found again where the map left it.
"""

import logging
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import soundfile
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CsmForConditionalGeneration, MimiModel

from serve_app.codec.mimi import moshi_tensors
from serve_app.messages import DEMO_VOICE
from serve_app.model.create import WEIGHTS_MARKER, write_texts
from serve_app.model.random_weights import stored_name
from serve_app.model.trained_for import TRAINED_FOR_KEY
from serve_app.model.weights import CODEC_PREFIX
from training.codec import trained_codec
from training.command import folder_argument
from training.espeak import Espeak
from training.language_model import trained_model
from training.robot_speech import SAMPLE_RATE_HZ, say
from training.shape import codec_config
from training.tokens import new_tokenizer

SHARPNESS = 5.0
"""Logits are multiplied by this: at the usual temperature of 0.9 a voice this small would slur, and at half of this
factor one call in a hundred began in the other voice."""

PROMPTS = (
    ("conversational_a", "Hello, this is the low voice."),
    ("conversational_b", "Hello, this is the high voice."),
)
TRAINED_FOR = {
    "longest_piece_words": 12,
    "longest_context_seconds": 12.0,
    "alphabet": string.ascii_letters + ",.?!'",
}
"""Turns of up to 24 words were learnt, in conversations of 384 positions; half of each is spoken reliably."""

_TIED = "backbone_model.embed_tokens.embed_audio_tokens.weight"
"""transformers stores the table once, by the depth decoder's name."""

log = logging.getLogger("training")


def export(folder: Path) -> Path:
    out = folder / "checkpoint"
    (out / "prompts").mkdir(parents=True, exist_ok=True)
    model = trained_model(folder)
    marks = {WEIGHTS_MARKER: DEMO_VOICE, TRAINED_FOR_KEY: TRAINED_FOR}
    write_texts(out, model.config, "bfloat16", new_tokenizer(), marks)
    tensors = dict(_language_model(model)) | dict(_codec(trained_codec(folder).state_dict()))
    stored = {stored_name(name): tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}
    save_file(stored, out / "model.safetensors", {"format": "pt"})
    espeak = Espeak()
    for voice, (name, text) in enumerate(PROMPTS):
        path = out / "prompts" / name
        soundfile.write(path.with_suffix(".wav"), say(espeak, text, voice).wave, SAMPLE_RATE_HZ, subtype="PCM_16")
        path.with_suffix(".txt").write_text(text + "\n")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    log.info("checkpoint: %s, %.1f MB", out, size / 1e6)
    return out


def _language_model(model: CsmForConditionalGeneration) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict().items():
        if name.startswith(CODEC_PREFIX) or name == _TIED:
            continue
        is_head = name in ("lm_head.weight", "depth_decoder.codebooks_head.weight")
        yield name, tensor * SHARPNESS if is_head else tensor.clone()


def _codec(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    config = codec_config()
    shapes = {name: tensor.shape for name, tensor in MimiModel(config).state_dict().items()}
    total, numbered = 0, {}
    for name, shape in shapes.items():
        numbered[name] = torch.arange(total, total + shape.numel(), dtype=torch.float64).view(shape)
        total += shape.numel()
    values = torch.zeros(total)
    for name, places in moshi_tensors(numbered.items(), config).items():
        values[places.long().flatten()] = state[name].float().flatten()
    tensors = {name: values[places.long()] for name, places in numbered.items()}
    for name in [name for name in tensors if name.endswith(".embed_sum")]:
        # The mean that a codebook's entry is, once: sum and count would each be rounded.
        usage = name.replace("embed_sum", "cluster_usage")
        tensors[name] /= tensors[usage].clamp(min=1e-5)[:, None]
        tensors[usage] = torch.ones_like(tensors[usage])
    yield from ((CODEC_PREFIX + name, tensor) for name, tensor in tensors.items())


if __name__ == "__main__":
    export(folder_argument(__doc__))
