"""The language model while it learns: transformers' CSM, two heads of attention that are shown where to look, and two
helpers that say which sounds a word has and who will speak. The helpers are left behind when the checkpoint is written.

Guided attention after Tachibana et al., 2017 (DC-TTS), here with the true places instead of a diagonal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CsmForConditionalGeneration

from training.espeak import VOICES
from training.shape import NUM_CODEBOOKS, csm_config
from training.turns import MAX_PHONEMES, PARTS, Batch

LETTER_LAYERS = 2
"""The lowest ones learn what a word sounds like, before there is any sound."""
_GUIDED_LAYERS = (2, 3)
_PHONEME_LAYERS = 4
"""After so many layers the next phoneme must be clear."""
_DEPTH_SHARE = 1 / 3
"""Of frames whose other codebooks are learnt in a step (Sesame, 2025: a sixteenth)."""

_WEIGHTS = {"code 0": 1.0, "codes": 1.0, "phoneme": 0.5, "attention": 0.3, "letters": 0.3, "voice": 0.3, "speaker": 0.3}


@dataclass(frozen=True, slots=True)
class _Read:
    """`[rows, positions, width]`: the input of every layer, and the last one's output, normed."""

    inputs: list[Tensor]
    output: Tensor
    scores: list[Tensor]
    """`[rows, 3, positions, positions]` of each guided layer, before the softmax."""


class Network(nn.Module):
    def __init__(self, num_phonemes: int) -> None:
        super().__init__()
        self.csm = CsmForConditionalGeneration(csm_config())
        self.csm.codec_model.requires_grad_(False)
        width = self.csm.config.hidden_size
        self.letters_head = nn.Linear(width, MAX_PHONEMES * (num_phonemes + 1))
        self.phoneme_head = nn.Linear(width, num_phonemes * PARTS)
        self.voice_head = nn.Linear(width, len(VOICES))

    def letter_parameters(self) -> list[nn.Parameter]:
        layers = self.csm.backbone_model.layers[:LETTER_LAYERS]
        return [*self.csm.embed_text_tokens.parameters(), *layers.parameters(), *self.letters_head.parameters()]

    def word_logits(self, text: Tensor, word_ends: Tensor) -> Tensor:
        """`[words, MAX_PHONEMES, phonemes + 1]` from text alone."""
        read = self._read(self.csm.embed_text_tokens(text), LETTER_LAYERS)
        return self._word_logits(read.inputs[-1], word_ends)

    def losses(self, batch: Batch, with_voices: bool) -> tuple[Tensor, dict[str, float]]:
        """What to minimise, and its parts with the share of phonemes foretold right."""
        read = self._read(self._embedded(batch))
        state = read.output[batch.predicts]
        wanted = batch.codes.roll(-1, 1)[batch.predicts]
        told = batch.classes >= 0
        phonemes = self.phoneme_head(read.inputs[_PHONEME_LAYERS][told])
        words = self._word_logits(read.inputs[LETTER_LAYERS], batch.word_ends)
        parts = {
            "code 0": functional.cross_entropy(self.csm.lm_head(state), wanted[:, 0]),
            "codes": self._depth_loss(state, wanted),
            "phoneme": functional.cross_entropy(phonemes, batch.classes[told]),
            "attention": _attention_loss(read.scores, batch.hints[told], told),
            "letters": functional.cross_entropy(words.flatten(0, 1), batch.word_phonemes.flatten()),
        }
        if with_voices:
            cast = batch.voices >= 0
            voices = self.voice_head(read.inputs[_PHONEME_LAYERS][cast])
            parts["voice"] = functional.cross_entropy(voices, batch.voices[cast])
            parts["speaker"] = _speaker_loss(read.scores, batch)
        right = (phonemes.argmax(-1) == batch.classes[told]).float().mean().item()
        figures = {name: part.item() for name, part in parts.items()} | {"phonemes right": right}
        return torch.stack([_WEIGHTS[name] * part for name, part in parts.items()]).sum(), figures

    def _embedded(self, batch: Batch) -> Tensor:
        config = self.csm.config
        rows = batch.codes + torch.arange(NUM_CODEBOOKS) * config.vocab_size
        audio = self.csm.backbone_model.embed_tokens.embed_audio_tokens(rows).sum(2)
        return audio * batch.is_audio[..., None] + self.csm.embed_text_tokens(batch.text) * batch.is_text[..., None]

    def _word_logits(self, hidden: Tensor, word_ends: Tensor) -> Tensor:
        return self.letters_head(hidden[word_ends[:, 0], word_ends[:, 1]]).unflatten(-1, (MAX_PHONEMES, -1))

    def _depth_loss(self, state: Tensor, wanted: Tensor) -> Tensor:
        some = torch.randperm(len(wanted))[: math.ceil(len(wanted) * _DEPTH_SHARE)]
        codes = wanted[some]
        # The first place is the backbone's: the depth decoder puts its state there.
        read = functional.pad(codes[:, :-1], (1, 0))
        logits = self.csm.depth_decoder(input_ids=read, backbone_last_hidden_state=state[some], use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1), codes[:, 1:].flatten())

    def _read(self, x: Tensor, num_layers: int | None = None) -> _Read:
        """transformers' backbone, layer by layer: its own forward shows scores only after the softmax, and slowly."""
        backbone = self.csm.backbone_model
        cos, sin = (part[:, None] for part in backbone.rotary_emb(x, torch.arange(x.shape[1])[None]))
        inputs, scores = [], []
        layers: Sequence[Any] = list(backbone.layers[:num_layers])
        for number, layer in enumerate(layers):
            inputs.append(x)
            attention, normed = layer.self_attn, layer.input_layernorm(x)
            heads = (normed.shape[0], normed.shape[1], -1, attention.head_dim)
            q, k, v = (
                project(normed).view(heads).transpose(1, 2)
                for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
            if number in _GUIDED_LAYERS:
                # The first two query heads share the first key head, the third has the other.
                scores.append(q[:, :3] @ k[:, [0, 0, 1]].transpose(-1, -2) * attention.scaling)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = x + attention.o_proj(mixed.transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return _Read([*inputs, x], backbone.norm(x), scores)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def _attention_loss(scores: list[Tensor], hints: Tensor, told: Tensor) -> Tensor:
    """-log of the attention that falls where it should, on average over frames, layers and the two heads."""
    position = torch.arange(told.shape[1])
    future = position > told.nonzero()[:, 1, None]
    losses = []
    for layer in scores:
        for head in range(2):
            seen = layer[:, head][told].masked_fill(future, -math.inf)
            elsewhere = (position < hints[:, head, :1]) | (position > hints[:, head, 1:])
            there = seen.masked_fill(elsewhere, -1e9).logsumexp(-1)
            losses.append((seen.logsumexp(-1) - there).mean())
    return torch.stack(losses).mean()


def _speaker_loss(scores: list[Tensor], batch: Batch) -> Tensor:
    """Of the third guided head: in the lower layer every position looks at who speaks in its turn, in the upper one a
    turn's text looks at what the same speaker said before."""
    turns, speakers = batch.turns, batch.speakers
    named = (turns[:, :, None] == turns[:, None]) & batch.names_speaker[:, None]
    before = (
        (speakers[:, :, None] == speakers[:, None]) & (turns[:, :, None] > turns[:, None]) & batch.is_audio[:, None]
    )
    lower, upper = (layer[:, 2] for layer in scores)
    return _looks_elsewhere(lower, named) + _looks_elsewhere(upper, before & batch.is_text[:, :, None])


def _looks_elsewhere(scores: Tensor, wanted: Tensor) -> Tensor:
    """-log of the attention that falls where it should, on average over the positions that should look anywhere."""
    num_positions = scores.shape[-1]
    past = torch.ones(num_positions, num_positions, dtype=torch.bool).tril()
    wanted = wanted & past
    asked = wanted.any(-1)
    seen = scores.masked_fill(~past, -math.inf)[asked]
    return (seen.logsumexp(-1) - seen.masked_fill(~wanted[asked], -1e9).logsumexp(-1)).mean()
