"""Clips to codes, alone and together."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import MimiModel

from serve_app.codec import encoder as encoder_module
from serve_app.codec.encoder import ClipEncoder
from serve_app.codec.mimi import MimiModel as MoshiMimi
from tests.support.small_mimi import NUM_CODEBOOKS


def clip(num_samples: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal(num_samples))
    sound = 8000 * walk / np.abs(walk).max() + 300 * rng.standard_normal(num_samples)
    return sound.astype("<i2").tobytes()


class CountingEncoder(ClipEncoder):
    """Notes how many clips each pass held."""

    def __init__(self, mimi: MoshiMimi, cache_entries: int) -> None:
        super().__init__(mimi, cache_entries)
        self.passes: list[int] = []
        forward = mimi.encode

        def counted(samples: torch.Tensor) -> torch.Tensor:
            self.passes.append(len(samples))
            return forward(samples)

        mimi.encode = counted  # type: ignore[method-assign]


@pytest.fixture
def encoder(new_mimi: Callable[[], MoshiMimi]) -> CountingEncoder:
    return CountingEncoder(new_mimi(), cache_entries=2)


def test_codes_are_those_of_transformers(encoder: ClipEncoder, oracle: MimiModel) -> None:
    pcm = clip(10 * 1920, seed=1)
    samples = torch.from_numpy(np.frombuffer(pcm, "<i2").astype(np.float32) / 32768)
    with torch.inference_mode():
        expected = oracle.encode(samples[None, None]).audio_codes[0].T
    assert np.array_equal(encoder.encode(pcm).to_array(), expected.numpy())


@pytest.mark.parametrize(("num_samples", "num_frames"), [(1, 1), (1920, 1), (1921, 2), (24_000, 13)])
def test_a_ragged_end_is_silence_to_the_next_frame(encoder: ClipEncoder, num_samples: int, num_frames: int) -> None:
    pcm = clip(num_samples, seed=1)
    codes = encoder.encode(pcm)
    assert (codes.num_frames, codes.num_codebooks) == (num_frames, NUM_CODEBOOKS)
    assert codes == encoder.encode(pcm + bytes(2 * (num_frames * 1920 - num_samples)))


def test_a_batch_gives_what_each_clip_gives_alone(encoder: CountingEncoder) -> None:
    clips = [clip(num_samples, seed=num_samples) for num_samples in (30_000, 500, 19_200, 48_001, 1920)]
    together = encoder.encode_batch(clips)
    assert encoder.passes == [5]
    alone = [encoder.encode(pcm) for pcm in clips]
    assert [codes.num_frames for codes in together] == [codes.num_frames for codes in alone]
    pairs = zip(together, alone, strict=True)
    equal = np.concatenate([(ours.to_array() == theirs.to_array()).ravel() for ours, theirs in pairs])
    # All were equal where this was written; another CPU may round a near tie the other way.
    assert equal.mean() > 0.99


def test_equal_clips_are_encoded_once(encoder: CountingEncoder) -> None:
    first, second = clip(1920, seed=1), clip(1920, seed=2)
    a, b, c = encoder.encode_batch([first, second, first])
    assert encoder.passes == [2]
    assert a == c != b


def test_a_remembered_clip_is_not_encoded_again(encoder: CountingEncoder) -> None:
    first, second, third = (clip(1920, seed) for seed in range(3))
    codes = encoder.encode(first)
    encoder.encode(second)
    assert encoder.encode(first) == codes
    assert encoder.passes == [1, 1]
    encoder.encode_batch([third, first])
    assert encoder.passes == [1, 1, 1]
    encoder.encode(second)
    assert encoder.passes == [1, 1, 1, 1], "the least recently used of three was forgotten"


def test_a_cache_of_nothing_remembers_nothing(new_mimi: Callable[[], MoshiMimi]) -> None:
    encoder = CountingEncoder(new_mimi(), cache_entries=0)
    pcm = clip(1920, seed=1)
    assert encoder.encode(pcm) == encoder.encode(pcm)
    assert encoder.passes == [1, 1]


def test_a_pass_is_bounded_in_padded_audio(encoder: CountingEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "_PASS_BYTES", 2 * 1920 * 4)
    clips = [clip(1920 * num_frames, seed=num_frames) for num_frames in (9, 1, 2, 3)]
    assert [codes.num_frames for codes in encoder.encode_batch(clips)] == [9, 1, 2, 3]
    assert encoder.passes == [2, 1, 1]


def test_a_streaming_mimi_is_refused(new_mimi: Callable[[], MoshiMimi]) -> None:
    mimi = new_mimi()
    mimi.streaming_forever(1)
    with pytest.raises(AssertionError, match="second one"):
        ClipEncoder(mimi, cache_entries=1)
