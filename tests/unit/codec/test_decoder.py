"""Slots: streams decoded together sound as if each were alone."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import MimiConfig

from serve_app.codec.decoder import SlotDecoder
from serve_app.codec.mimi import MimiModel as MoshiMimi
from serve_app.codec.mimi import load_mimi
from serve_app.settings import CodecSettings
from tests.support.small_mimi import CODEBOOK_SIZE, CPU, NUM_CODEBOOKS, random_mimi

Frames = NDArray[np.uint16]
NewMimi = Callable[[], MoshiMimi]


def random_frames(num_frames: int, seed: int = 1) -> Frames:
    return np.random.default_rng(seed).integers(CODEBOOK_SIZE, size=(num_frames, NUM_CODEBOOKS), dtype=np.uint16)


def opened(decoder: SlotDecoder) -> int:
    slot = decoder.open()
    assert slot is not None
    return slot


def decoded(decoder: SlotDecoder, slot: int, frames: Iterable[NDArray[np.integer]]) -> NDArray[np.int16]:
    return np.concatenate([decoder.decode({slot: frame[None]})[slot] for frame in frames])


def solo(new_mimi: NewMimi, frames: Frames, num_slots: int) -> NDArray[np.int16]:
    decoder = SlotDecoder(new_mimi(), num_slots)
    return decoded(decoder, opened(decoder), frames)


def one_shot(mimi: MoshiMimi, frames: Frames) -> NDArray[np.float32]:
    """In units of an int16 sample, neither rounded nor clipped."""
    with torch.inference_mode():
        return 32768 * mimi.decode(torch.from_numpy(frames.T[None].astype(np.int64)))[0, 0].numpy()


def test_frame_by_frame_is_the_one_shot_sound_rounded(new_mimi: NewMimi) -> None:
    frames = random_frames(124)
    samples = solo(new_mimi, frames, num_slots=2)
    assert samples.dtype == np.int16
    assert len(samples) == 124 * 1920
    # Half an LSB of rounding, and float32's own error at this loudness.
    assert np.abs(samples - one_shot(new_mimi(), frames)).max() < 0.6


def test_past_the_context_the_difference_stays_inaudible(new_mimi: NewMimi) -> None:
    # moshi stores both keys of a frame before it attends: past 125 frames, the first position misses its oldest key.
    frames = random_frames(140)
    expected = one_shot(new_mimi(), frames)
    error = solo(new_mimi, frames, num_slots=2) - expected
    assert np.abs(error).max() < 0.05 * expected.std()
    assert error.std() < 0.005 * expected.std()


def test_desynchronised_streams_equal_solo_ones_bit_for_bit(new_mimi: NewMimi) -> None:
    streams = {name: random_frames(20, seed) for seed, name in enumerate("abcd")}
    decoder = SlotDecoder(new_mimi(), num_slots=3)
    rng = np.random.default_rng(0)
    slots: dict[str, int] = {}
    sound: dict[str, list[NDArray[np.int16]]] = {name: [] for name in streams}
    waiting = list(streams)
    while waiting or slots:
        if waiting and rng.random() < 0.3 and (slot := decoder.open()) is not None:
            slots[waiting.pop(0)] = slot
        running = [name for name in slots if rng.random() < 0.6]
        chunks = decoder.decode({slots[name]: streams[name][len(sound[name])][None] for name in running})
        for name in running:
            sound[name].append(chunks[slots[name]])
            if len(sound[name]) == len(streams[name]):
                decoder.close(slots.pop(name))
    for name, frames in streams.items():
        assert np.array_equal(np.concatenate(sound[name]), solo(new_mimi, frames, num_slots=3)), name


def test_frames_may_come_together(new_mimi: NewMimi) -> None:
    one, other = random_frames(9, seed=1), random_frames(9, seed=2)
    decoder = SlotDecoder(new_mimi(), num_slots=3)
    slots = opened(decoder), opened(decoder)
    first = decoder.decode({slots[0]: one[:5], slots[1]: other[:2]})
    second = decoder.decode({slots[1]: other[2:], slots[0]: one[5:]})
    for slot, frames in zip(slots, (one, other), strict=True):
        assert np.array_equal(np.concatenate([first[slot], second[slot]]), solo(new_mimi, frames, num_slots=3))


def test_slots_that_are_opened_together_are_cleared_together(
    new_mimi: NewMimi, monkeypatch: pytest.MonkeyPatch
) -> None:
    mimi, frames = new_mimi(), random_frames(2)
    decoder, cleared = SlotDecoder(mimi, 4), list[list[bool]]()
    reset = mimi.reset_streaming
    monkeypatch.setattr(mimi, "reset_streaming", lambda mask: (cleared.append(mask.tolist()), reset(mask)))
    first, second = opened(decoder), opened(decoder)
    decoder.decode({first: frames[:1], second: frames[:1]})
    decoder.decode({first: frames[1:]})
    third = opened(decoder)
    decoder.decode({first: frames[1:], third: frames[:1]})
    assert cleared == [[slot in (first, second) for slot in range(4)], [slot == third for slot in range(4)]]


def test_a_reopened_slot_starts_clean(new_mimi: NewMimi) -> None:
    frames = random_frames(5)
    decoder = SlotDecoder(new_mimi(), num_slots=1)
    slot = opened(decoder)
    decoded(decoder, slot, random_frames(7, seed=2))
    decoder.close(slot)
    assert np.array_equal(decoded(decoder, opened(decoder), frames), solo(new_mimi, frames, num_slots=1))


def test_warm_up_leaves_no_trace(new_mimi: NewMimi) -> None:
    frames = random_frames(5)
    decoder = SlotDecoder(new_mimi(), num_slots=2)
    decoder.warm_up()
    assert decoder.num_free == 2
    assert np.array_equal(decoded(decoder, opened(decoder), frames), solo(new_mimi, frames, num_slots=2))


def test_a_full_decoder_opens_no_slot_until_one_closes(new_mimi: NewMimi) -> None:
    decoder = SlotDecoder(new_mimi(), num_slots=2)
    slots = [opened(decoder), opened(decoder)]
    assert sorted(slots) == [0, 1]
    assert decoder.num_free == 0
    assert decoder.open() is None
    decoder.close(slots[0])
    assert decoder.num_free == 1
    assert decoder.open() == slots[0]


def test_misuse_is_noticed(new_mimi: NewMimi) -> None:
    decoder = SlotDecoder(new_mimi(), num_slots=2)
    slot = opened(decoder)
    assert decoder.decode({}) == {}
    with pytest.raises(AssertionError, match="only open slots"):
        decoder.decode({1 - slot: random_frames(1)})
    with pytest.raises(AssertionError, match="masks ids"):
        decoder.decode({slot: np.full((1, NUM_CODEBOOKS), CODEBOOK_SIZE)})
    decoder.close(slot)
    with pytest.raises(AssertionError, match="not open"):
        decoder.close(slot)


def test_loud_sound_clips_and_does_not_wrap(config: MimiConfig) -> None:
    loud = random_mimi(config, loudness=1.0)

    def new_mimi() -> MoshiMimi:
        return load_mimi(loud.state_dict().items(), config, NUM_CODEBOOKS, CPU)

    frames = random_frames(10)
    expected = one_shot(new_mimi(), frames)
    samples = solo(new_mimi, frames, num_slots=1)
    assert (samples[expected > 32768] == 32767).all()
    assert (samples[expected < -32769] == -32768).all()
    assert (expected > 32768).any()
    assert (expected < -32769).any()


def test_a_short_stream_replayed_whole_goes_on_bit_for_bit(new_mimi: NewMimi) -> None:
    frames = random_frames(30)
    decoder = SlotDecoder(new_mimi(), num_slots=2)
    opened(decoder)
    slot = opened(decoder)
    decoded(decoder, slot, frames[:20])
    expected = solo(new_mimi, frames, num_slots=2)[20 * 1920 :]
    assert np.array_equal(decoded(decoder, slot, frames[20:]), expected)


def test_the_replay_window_rebuilds_a_long_stream_to_one_lsb(new_mimi: NewMimi) -> None:
    replayed = CodecSettings().replay_frames
    tail, length = 10, replayed + 70
    frames = random_frames(length)
    expected = solo(new_mimi, frames, num_slots=1)[-tail * 1920 :].astype(int)

    def error(window: int) -> int:
        decoder = SlotDecoder(new_mimi(), num_slots=1)
        slot = opened(decoder)
        decoded(decoder, slot, frames[length - tail - window : length - tail])
        return int(np.abs(decoded(decoder, slot, frames[-tail:]) - expected).max())

    assert error(replayed) <= 1
    assert error(replayed // 4) > 10, "these weights would not notice a window that is too short"
