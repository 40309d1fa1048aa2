"""Our model against transformers', teacher-forced: the same hidden states and logits, from the same files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CsmForConditionalGeneration

from serve_app.model.checkpoint import load_model, open_checkpoint
from serve_app.model.create import create_checkpoint
from serve_app.model.csm import Csm
from serve_app.model.kv_views import TokenRange
from serve_app.model.shape import CsmShape, TransformerShape

DEFAULT_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}

CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "few codebooks, wide depth decoder": {
        "num_codebooks": 8,
        "hidden_size": 48,
        "num_attention_heads": 6,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "depth_decoder_config": {"hidden_size": 80, "num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": 16},
    },
    "default rope, larger vocabulary, text ids as in csm-1b": {
        **DEFAULT_ROPE,
        "num_codebooks": 16,
        "intermediate_size": 200,
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "text_vocab_size": 1300,
        "bos_token_id": 1280,
        "depth_decoder_config": {**DEFAULT_ROPE, "num_hidden_layers": 1, "head_dim": 12},
        "codec_config": {"codebook_size": 256},
    },
}

# transformers computes norms and rotations in float32 whatever the model's type, so float64 agrees no better.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@dataclass(frozen=True)
class Pair:
    ours: Csm
    theirs: CsmForConditionalGeneration

    @property
    def shape(self) -> CsmShape:
        return self.ours.shape


@pytest.fixture(scope="module", params=CONFIGS, ids=str)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    create_checkpoint(folder, "tiny", seed=3, overrides=CONFIGS[request.param])
    return folder


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=str)
def pair(request: pytest.FixtureRequest, folder: Path) -> Pair:
    ours = load_model(open_checkpoint(str(folder), None), torch.device("cpu"), request.param)
    theirs = CsmForConditionalGeneration.from_pretrained(folder, dtype=request.param)
    return Pair(ours, theirs.eval())


def empty_kv(shape: TransformerShape, num_rows: int, dtype: torch.dtype) -> Tensor:
    # What was never written must not matter, so it is poison.
    size = (shape.num_layers, 2, num_rows, shape.num_kv_heads, shape.max_positions, shape.head_dim)
    return torch.full(size, 1e3, dtype=dtype)


def run_in_chunks(model: Csm, prompt: Tensor, chunks: list[int]) -> Tensor:
    kv = empty_kv(model.shape.backbone, 1, model.dtype)
    states, start = [], 0
    for part in prompt.split(chunks):
        states.append(model.prefill(part, kv, [TokenRange(0, start, len(part))]))
        start += len(part)
    return torch.cat(states)


def mixed_prompt(pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """A spoken passage as context and a text to speak: their ids and audio, and our embeddings of the same."""
    config, ours = pair.theirs.config, pair.ours
    generator = torch.Generator().manual_seed(5)
    audio = 0.1 * torch.randn(1, 1, 1920 * 9, generator=generator, dtype=torch.float64).to(ours.dtype)
    codes = pair.theirs.codec_model.encode(audio).audio_codes[0].T
    frames = torch.cat((codes, torch.zeros_like(codes[:1])))
    bos, eos = config.bos_token_id, config.bos_token_id + 1
    context = torch.tensor([bos, *torch.randint(256, (12,), generator=generator), eos])
    target = torch.tensor([bos, *torch.randint(256, (7,), generator=generator), eos])
    placeholders = torch.tensor([config.audio_token_id] * len(codes) + [config.audio_eos_token_id])
    embedded = torch.cat((ours.embed_text(context), ours.embed_frames(frames), ours.embed_text(target)))
    return torch.cat((context, placeholders, target))[None], audio, embedded


@torch.inference_mode()
@pytest.mark.parametrize("chunks", [[33], [20, 13], [32, 1], [11] * 3], ids=str)
def test_backbone_over_text_and_audio(pair: Pair, chunks: list[int]) -> None:
    ids, audio, embedded = mixed_prompt(pair)
    theirs = pair.theirs(
        input_ids=ids,
        input_values=audio,
        input_values_cutoffs=torch.tensor([[audio.shape[-1]]]),
        output_hidden_states=True,
    )
    hidden = run_in_chunks(pair.ours, embedded, chunks)
    torch.testing.assert_close(hidden, theirs.hidden_states[-1][0], **TOLERANCE)
    torch.testing.assert_close(F.linear(hidden, pair.ours.first_head), theirs.logits[0], **TOLERANCE)


@torch.inference_mode()
def test_backbone_far_from_the_start(pair: Pair) -> None:
    """Where a wrong rotation shows most."""
    ids = torch.randint(256, (1, 1500), generator=torch.Generator().manual_seed(1))
    theirs = pair.theirs(input_ids=ids, logits_to_keep=20).logits
    hidden = run_in_chunks(pair.ours, pair.ours.embed_text(ids[0]), [1480, 20])
    torch.testing.assert_close(F.linear(hidden[-20:], pair.ours.first_head), theirs[0], **TOLERANCE)


@torch.inference_mode()
def test_rows_at_different_positions_do_not_touch_each_other(pair: Pair) -> None:
    ours, generator = pair.ours, torch.Generator().manual_seed(2)
    ids = torch.randint(256, (2, 30), generator=generator)
    alone = [run_in_chunks(ours, ours.embed_text(ids[row, :length]), [length]) for row, length in enumerate((30, 9))]
    kv = empty_kv(ours.shape.backbone, 2, ours.dtype)
    for row, length in enumerate((29, 8)):
        ours.prefill(ours.embed_text(ids[row, :length]), kv, [TokenRange(row, 0, length)])
    last = ours.embed_text(torch.stack((ids[0, 29], ids[1, 8])))
    together = ours.step(last, kv, torch.tensor([29, 8]), 30)
    expected = torch.stack([states[-1] for states in alone])
    torch.testing.assert_close(together, expected, **TOLERANCE)


@torch.inference_mode()
def test_spans_of_several_rows_in_one_pass(pair: Pair) -> None:
    """Each continues where its row stands; padding behind them touches nobody."""
    ours, generator = pair.ours, torch.Generator().manual_seed(6)
    ids = torch.randint(256, (3, 30), generator=generator)
    ends = (30, 9, 17)
    alone = [run_in_chunks(ours, ours.embed_text(ids[row, :end]), [end]) for row, end in enumerate(ends)]
    kv = empty_kv(ours.shape.backbone, 3, ours.dtype)
    begun = [TokenRange(0, 0, 11), TokenRange(2, 0, 5)]
    ours.prefill(torch.cat([ours.embed_text(ids[s.row, s.start : s.end]) for s in begun]), kv, begun)
    rest = [TokenRange(0, 11, 19), TokenRange(1, 0, 9), TokenRange(2, 5, 12)]
    tokens = torch.cat([ours.embed_text(ids[s.row, s.start : s.end]) for s in rest])
    states = ours.prefill(F.pad(tokens, (0, 0, 0, 7)), kv, rest)
    expected = torch.cat([alone[s.row][s.start :] for s in rest])
    torch.testing.assert_close(states[: len(expected)], expected, **TOLERANCE)


class Forced:
    """A sampler that knows what to draw, and remembers what it was shown."""

    def __init__(self, codes: Tensor) -> None:
        self.codes = codes
        self.seen: list[Tensor] = []

    def draw(self, codebook: int, logits: Tensor) -> Tensor:
        self.seen.append(logits)
        return self.codes[:, codebook]


@torch.inference_mode()
@pytest.mark.parametrize("num_rows", [1, 3])
def test_depth_decoder_over_all_codebooks(pair: Pair, num_rows: int) -> None:
    shape, generator = pair.shape, torch.Generator().manual_seed(4)
    hidden = torch.randn(num_rows, shape.backbone.hidden_size, generator=generator, dtype=torch.float64)
    hidden = hidden.to(pair.ours.dtype)
    codes = torch.randint(shape.codebook_size, (num_rows, shape.num_codebooks), generator=generator)
    sampler = Forced(codes)
    views = pair.ours.depth_kv(empty_kv(shape.depth, num_rows, hidden.dtype))
    drawn = pair.ours.draw_frame(hidden, views, sampler)
    shifted = torch.cat((torch.zeros_like(codes[:, :1]), codes[:, :-1]), dim=1)
    theirs = pair.theirs.depth_decoder(input_ids=shifted, backbone_last_hidden_state=hidden)
    assert torch.equal(drawn, codes)
    torch.testing.assert_close(torch.stack(sampler.seen[1:], dim=1), theirs.logits, **TOLERANCE)
    torch.testing.assert_close(sampler.seen[0], pair.theirs.lm_head(hidden), **TOLERANCE)
