"""transformers' CSM on the same files, greedy and in float32, as a reference. It never serves requests.

Shapes: T prompt positions, F frames, K codebooks, C codes of a codebook.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, CsmForConditionalGeneration

from serve_app.model.checkpoint import Checkpoint

_FULL_SCALE = 32768.0
_AUDIO = -1


@dataclass(frozen=True, slots=True)
class Passage:
    """A transcript. Context also has its sound: whole frames of signed 16 bit little-endian PCM at 24 kHz."""

    speaker: int
    text: str
    pcm: bytes | None = None


@dataclass(frozen=True, slots=True)
class Spoken:
    """What transformers generates for the last of some passages."""

    prompt_ids: NDArray[np.int64]
    """[T], -1 where a position is a frame."""
    context_codes: tuple[NDArray[np.int64], ...]
    """The codes of each passage with sound, [its frames, K]."""
    codes: NDArray[np.int64]
    """[F, K], without the frame that ends the speech."""
    logits: NDArray[np.float32]
    """[F, K, C] the logits of each code, given all codes before it."""


class TransformersOracle:
    """Runs on the CPU, and keeps the model in memory for its lifetime."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        transformers.logging.disable_progress_bar()
        self._shape = checkpoint.shape
        self._tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint.text_folder, split_special_tokens=True)
        self._model = _loaded(checkpoint).eval()

    @torch.inference_mode()
    def speak(self, passages: Sequence[Passage], max_frames: int) -> Spoken:
        """Generate greedily. Like this server, it never draws ids that Mimi lacks."""
        waves = [_wave(passage.pcm) for passage in passages if passage.pcm is not None]
        context = [self._model.codec_model.encode(wave[None]).audio_codes[0].T for wave in waves]
        ids = self._prompt_ids(passages, [len(codes) for codes in context])
        inputs = {"input_ids": ids[None]} | _audio_inputs(waves)
        codes = self._generate(inputs, max_frames)
        config = self._model.config
        is_audio = (ids == config.audio_token_id) | (ids == config.audio_eos_token_id)
        return Spoken(
            prompt_ids=ids.masked_fill(is_audio, _AUDIO).numpy(),
            context_codes=tuple(part.numpy() for part in context),
            codes=codes.numpy(),
            logits=self._logits(inputs, codes).numpy(),
        )

    def _prompt_ids(self, passages: Sequence[Passage], num_frames: Sequence[int]) -> Tensor:
        config, frames_left = self._model.config, iter(num_frames)
        ids: list[int] = []
        for passage in passages:
            ids += self._tokenizer(f"[{passage.speaker}]{passage.text}")["input_ids"]
            if passage.pcm is not None:
                ids += [config.audio_token_id] * next(frames_left) + [config.audio_eos_token_id]
        return torch.tensor(ids)

    def _generate(self, inputs: dict[str, Tensor], max_frames: int) -> Tensor:
        shape = self._shape
        options: dict[str, Any] = {"do_sample": False}
        if reserved := list(range(shape.codebook_size, shape.vocab_size)):
            options["suppress_tokens"] = reserved
        options |= {f"depth_decoder_{name}": value for name, value in options.items()}
        depth_tokens = shape.num_codebooks - 1
        frames = self._model.generate(
            **inputs,
            **options,
            max_new_tokens=max_frames,
            depth_decoder_min_new_tokens=depth_tokens,
            depth_decoder_max_new_tokens=depth_tokens,
        )[0]
        has_ended = not frames[-1, :-1].any()
        return frames[:-1] if has_ended else frames

    def _logits(self, inputs: dict[str, Tensor], codes: Tensor) -> Tensor:
        model, shape = self._model, self._shape
        # As `forward` embeds a prompt. It cannot take frames in the same call.
        prompt = model._merge_input_ids_with_input_values(**inputs)["inputs_embeds"]
        spoken = model.backbone_model.embed_tokens(codes[None, :-1])
        hidden = model.backbone_model(inputs_embeds=torch.cat((prompt, spoken), dim=1))[0][0, prompt.shape[1] - 1 :]
        hidden = hidden[: len(codes)]
        # The backbone's state takes the place of its first token.
        shifted = torch.cat((torch.zeros_like(codes[:, :1]), codes[:, :-1]), dim=1)
        depth = model.depth_decoder(input_ids=shifted, backbone_last_hidden_state=hidden).logits
        return torch.cat((model.lm_head(hidden)[:, None], depth), dim=1)[..., : shape.codebook_size]


def _loaded(checkpoint: Checkpoint) -> Any:
    """transformers reads its own layout by itself; of others it gets the tensors in its names."""
    if checkpoint.is_plain:
        return CsmForConditionalGeneration.from_pretrained(checkpoint.folder, dtype=torch.float32)
    tensors = {tensor.name: tensor.make() for tensor in checkpoint.stored()}
    return CsmForConditionalGeneration.from_pretrained(
        None, config=checkpoint.config, state_dict=tensors, dtype=torch.float32
    )


def _wave(pcm: bytes) -> Tensor:
    """[1, samples] in -1..1."""
    return torch.from_numpy(np.frombuffer(pcm, dtype="<i2").astype(np.float32) / _FULL_SCALE)[None]


def _audio_inputs(waves: Sequence[Tensor]) -> dict[str, Tensor]:
    if not waves:
        return {}
    ends = np.cumsum([wave.shape[-1] for wave in waves])
    return {"input_values": torch.cat(list(waves), dim=-1)[None], "input_values_cutoffs": torch.from_numpy(ends)[None]}
