"""Greedy float32 tokens equal transformers' `generate`, token for token, on configs that differ in every size and by
whichever step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CsmForConditionalGeneration

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.engine.steps.choice import step_maker
from serve_app.engine.steps.graphs import GraphedStep
from serve_app.engine.steps.plain import FrameStep
from serve_app.engine.steps.prefill import PlainPrefill
from serve_app.engine.steps.static_frame import PlainStaticFrame
from serve_app.messages import Codes, ContextSegment, GenerationRequest
from serve_app.model.create import create_checkpoint
from serve_app.model.csm import Csm
from tests.support.engine_harness import Harness, request
from tests.support.system_packages import need
from tests.support.tape import TapeDevice

NUM_FRAMES = 12
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "eight codebooks, three kv heads": {
        "num_codebooks": 8,
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 16,
        "depth_decoder_config": {"hidden_size": 48, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16},
        "codec_config": {"codebook_size": 128},
    },
    "sixteen codebooks, no grouping, plain rope": {
        "num_codebooks": 16,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 16,
        "text_vocab_size": 300,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "depth_decoder_config": {"num_hidden_layers": 4, "intermediate_size": 96},
        "codec_config": {"codebook_size": 256},
    },
}


class Oracle:
    """transformers' model on the same checkpoint, and the engine under test."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.model = CsmForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.folder = folder
        self._said: dict[GenerationRequest, list[list[int]]] = {}
        self.harness = Harness(folder)
        self._waves = torch.randn(3, 1, 1920 * 9, generator=torch.Generator().manual_seed(7)) * 0.3

    def segment(self, number: int, text: str, speaker: int, num_frames: int) -> tuple[ContextSegment, torch.Tensor]:
        wave = self._waves[number, :, : 1920 * num_frames]
        with torch.inference_mode():
            codes = self.model.codec_model.encode(wave[None]).audio_codes[0].T
        return ContextSegment(text, speaker, Codes.from_array(codes.numpy())), wave

    def generate(self, asked: GenerationRequest, waves: list[torch.Tensor]) -> list[list[int]]:
        """What it says, asked once."""
        if asked not in self._said:
            self._said[asked] = self._generate(asked, waves)
        return self._said[asked]

    def _generate(self, asked: GenerationRequest, waves: list[torch.Tensor]) -> list[list[int]]:
        """transformers' own prompt: placeholder ids for audio, and the waves to encode."""
        ids: list[int] = []
        config = self.model.config
        for segment in asked.context:
            ids += self.harness.tokenizer.encode(segment.speaker, segment.text)
            ids += [config.audio_token_id] * segment.codes.num_frames + [config.audio_eos_token_id]
        ids += self.harness.tokenizer.encode(asked.speaker, asked.text)
        inputs: dict[str, torch.Tensor] = {"input_ids": torch.tensor([ids])}
        if waves:
            joined = torch.cat(waves, dim=-1)
            ends = np.cumsum([wave.shape[-1] for wave in waves])
            inputs |= {"input_values": joined[None], "input_values_cutoffs": torch.from_numpy(ends)[None]}
        frames = self.model.generate(
            **inputs, do_sample=False, depth_decoder_do_sample=False, max_new_tokens=asked.sampling.max_frames
        )
        return frames[0].tolist()


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda name: name.replace(" ", "-").replace(",", ""))
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    folder = tmp_path_factory.mktemp("parity") / "checkpoint"
    create_checkpoint(folder, "tiny", seed=3, overrides=CONFIGS[request.param])
    return Oracle(folder)


@pytest.fixture(scope="module", params=["plain", "native", "graphs"])
def harness(request: pytest.FixtureRequest, oracle: Oracle) -> Harness:
    if request.param == "native":
        need("g++")
    makers = {"graphs": _recorded}
    return Harness(oracle.folder, make_step=makers.get(request.param) or step_maker(request.param))


def _recorded(model: Csm, kv: KvCache, state: RowState) -> FrameStep:
    return GraphedStep(
        PlainStaticFrame(model, kv, state), PlainPrefill(model, kv), TapeDevice(), max_rows=4, max_positions=256
    )


def test_text_alone(oracle: Oracle, harness: Harness) -> None:
    asked = request("Hello there, general.", greedy=True, max_frames=NUM_FRAMES)
    assert harness.run(asked)[0].frames == oracle.generate(asked, [])


def test_one_context(oracle: Oracle, harness: Harness) -> None:
    segment, wave = oracle.segment(0, "something said before", 1, 9)
    asked = request("And an answer.", segment, greedy=True, max_frames=NUM_FRAMES)
    assert harness.run(asked)[0].frames == oracle.generate(asked, [wave])


def test_several_contexts_and_members_of_a_batch_that_join_and_leave(oracle: Oracle, harness: Harness) -> None:
    segments, waves = zip(
        oracle.segment(0, "first", 0, 4),
        oracle.segment(1, "second", 1, 7),
        oracle.segment(2, "third", 0, 2),
        strict=True,
    )
    asked = [
        request("To all of that.", *segments, greedy=True, max_frames=NUM_FRAMES),
        request("Short.", greedy=True, max_frames=3),
        request("In between the others.", segments[1], speaker=1, greedy=True, max_frames=7),
        request("Late, but long enough to outlive some.", greedy=True, max_frames=9),
        request("Fifth, and first to wait.", segments[2], greedy=True, max_frames=5),
    ]
    used = [list(waves), [], [waves[1]], [], [waves[2]]]
    streams = harness.run_staggered(asked, steps_between=2)
    for stream, one, its_waves in zip(streams, asked, used, strict=True):
        assert stream.frames == oracle.generate(one, its_waves)
