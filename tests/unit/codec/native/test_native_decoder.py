"""The native decoder sounds as moshi's does, and a stream does not feel its mates."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import MimiConfig

from serve_app.codec.decoder import SlotDecoder
from serve_app.codec.mimi import MimiModel as MoshiMimi
from serve_app.codec.mimi import load_mimi
from serve_app.codec.native.decoder import SOURCE, NativeSlotDecoder
from serve_app.codec.native.from_mimi import decoder_weights
from serve_app.codec.slots import Slots
from serve_app.model.checkpoint import open_checkpoint
from serve_app.model.native import build
from tests.support.small_mimi import CPU, NUM_CODEBOOKS, random_mimi, small_config

Frames = NDArray[np.int64]
NewMimi = Callable[[], MoshiMimi]


def demo_mimi() -> MoshiMimi:
    checkpoint = open_checkpoint("demo", None)
    config = checkpoint.config.codec_config
    assert isinstance(config, MimiConfig)
    return load_mimi(checkpoint.codec_tensors(), config, checkpoint.shape.num_codebooks, CPU)


def small(**changes: object) -> MoshiMimi:
    config = small_config(**changes)
    return load_mimi(random_mimi(config).state_dict().items(), config, NUM_CODEBOOKS, CPU)


def random_frames(mimi: MoshiMimi, num_frames: int, seed: int = 1) -> Frames:
    return np.random.default_rng(seed).integers(mimi.cardinality, size=(num_frames, mimi.num_codebooks))


def opened(decoder: Slots) -> int:
    slot = decoder.open()
    assert slot is not None
    return slot


def decoded(decoder: Slots, slot: int, frames: Frames, group: int) -> NDArray[np.int16]:
    groups = np.split(frames, range(group, len(frames), group))
    return np.concatenate([decoder.decode({slot: part})[slot] for part in groups])


def solo(mimi: MoshiMimi, frames: Frames, group: int = 1, num_threads: int = 1) -> NDArray[np.int16]:
    decoder = NativeSlotDecoder(decoder_weights(mimi), 2, num_threads)
    return decoded(decoder, opened(decoder), frames, group)


def moshis(mimi: MoshiMimi, frames: Frames) -> NDArray[np.int16]:
    decoder = SlotDecoder(mimi, 1)
    return decoded(decoder, opened(decoder), frames, len(frames))


def assert_equal_within_one(found: NDArray[np.int16], expected: NDArray[np.int16]) -> None:
    assert np.abs(expected.astype(int)).max() > 300, "silence would prove nothing"
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("new_mimi", "num_frames"),
    [
        # The demo looks 8 frames back, the others 4 and 125: each case goes well beyond that.
        pytest.param(demo_mimi, 300, id="demo"),
        pytest.param(lambda: small(sliding_window=8), 40, id="small"),
        pytest.param(
            lambda: small(sliding_window=7, hidden_size=48, num_filters=5, intermediate_size=50), 30, id="odd"
        ),
        pytest.param(lambda: small(kernel_size=3, last_kernel_size=5, residual_kernel_size=2), 10, id="other kernels"),
        pytest.param(lambda: small(upsampling_ratios=[5, 8, 4, 6], compress=1), 10, id="other ratios"),
        pytest.param(small, 260, id="the whole window"),
    ],
)
def test_it_is_moshis_sound(new_mimi: NewMimi, num_frames: int) -> None:
    mimi = new_mimi()
    frames = random_frames(mimi, num_frames)
    found = solo(mimi, frames, group=7)
    assert_equal_within_one(found, moshis(mimi, frames))


@pytest.mark.parametrize("group", [2, 5, 250])
def test_samples_do_not_depend_on_how_frames_are_grouped(group: int) -> None:
    mimi = demo_mimi()
    frames = random_frames(mimi, 250)
    assert np.array_equal(solo(mimi, frames, group), solo(mimi, frames))


@pytest.mark.parametrize("num_threads", [1, 3])
def test_samples_do_not_depend_on_mates_threads_or_when_a_stream_joins(num_threads: int) -> None:
    mimi = demo_mimi()
    streams = [random_frames(mimi, 40, seed) for seed in range(9)]
    decoder = NativeSlotDecoder(decoder_weights(mimi), 8, num_threads)
    rng = np.random.default_rng(0)
    slots: dict[int, int] = {}
    sound: dict[int, list[NDArray[np.int16]]] = {name: [] for name in range(9)}
    done = dict.fromkeys(range(9), 0)
    waiting = list(range(9))
    most_at_once = 0
    while waiting or slots:
        if waiting and rng.random() < 0.9 and (slot := decoder.open()) is not None:
            slots[waiting.pop(0)] = slot
        sizes = {name: int(rng.integers(0, 5)) for name in slots}
        parts = {name: streams[name][done[name] : done[name] + size] for name, size in sizes.items() if size}
        most_at_once = max(most_at_once, len(parts))
        chunks = decoder.decode({slots[name]: part for name, part in parts.items()})
        for name, part in parts.items():
            sound[name].append(chunks[slots[name]])
            done[name] += len(part)
            if done[name] == 40:
                decoder.close(slots.pop(name))
    assert most_at_once >= 6
    for name, frames in enumerate(streams):
        assert np.array_equal(np.concatenate(sound[name]), solo(mimi, frames)), name


def test_a_reopened_slot_starts_clean_and_warm_up_leaves_no_trace() -> None:
    mimi = demo_mimi()
    frames = random_frames(mimi, 20)
    decoder = NativeSlotDecoder(decoder_weights(mimi), 1, 1)
    decoder.warm_up()
    first = decoded(decoder, opened(decoder), frames, 20)
    decoder.close(0)
    assert np.array_equal(decoded(decoder, opened(decoder), frames, 20), first)
    assert np.array_equal(solo(mimi, frames), first)


def test_loud_sound_clips_and_does_not_wrap() -> None:
    config = small_config()
    mimi = load_mimi(random_mimi(config, loudness=1.0).state_dict().items(), config, NUM_CODEBOOKS, CPU)
    frames = random_frames(mimi, 10)
    found = solo(mimi, frames)
    assert {-32768, 32767} <= set(found.tolist())
    expected = moshis(mimi, frames).astype(int)
    # Twenty-five times as loud, and so is the error.
    assert np.abs(found - expected).max() <= 25


def test_misuse_is_noticed() -> None:
    mimi = demo_mimi()
    decoder = NativeSlotDecoder(decoder_weights(mimi), 2, 1)
    slot = opened(decoder)
    assert decoder.decode({}) == {}
    with pytest.raises(AssertionError, match="only open slots"):
        decoder.decode({1 - slot: random_frames(mimi, 1)})
    with pytest.raises(AssertionError, match="masks ids"):
        decoder.decode({slot: np.full((1, mimi.num_codebooks), mimi.cardinality)})
    with pytest.raises(AssertionError, match="codebooks"):
        decoder.decode({slot: random_frames(mimi, 1)[:, 1:]})
    assert opened(decoder) == 1 - slot
    assert decoder.open() is None
    decoder.close(slot)
    with pytest.raises(AssertionError, match="not open"):
        decoder.close(slot)


@pytest.mark.parametrize("flags", [("-mavx2", "-mfma", "-O1"), ("-O1",)], ids=["avx2", "any processor"])
def test_older_processors_sound_the_same(flags: tuple[str, ...], tmp_path: Path) -> None:
    if not sys.platform.startswith("linux") or build.native_flags() != ("-march=native",):
        pytest.skip("these flags are x86's")
    mimi = small(sliding_window=7, hidden_size=48, num_filters=5)
    frames = random_frames(mimi, 20)
    decoder = NativeSlotDecoder(decoder_weights(mimi), 2, 2, build.load(build.build(flags, tmp_path, SOURCE)))
    assert_equal_within_one(decoded(decoder, opened(decoder), frames, 3), solo(mimi, frames))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
