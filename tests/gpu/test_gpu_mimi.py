"""The codec's slots on the card sound as they do on a CPU."""

import numpy as np
import pytest
import torch

# Before moshi, which decides on being imported whether it compiles.
import serve_app.codec  # noqa: F401

pytest.importorskip("moshi", reason="moshi is not installed; carry it as a wheel (docs/benchmarks.md)")

from transformers import MimiConfig

from serve_app.codec.decoder import SlotDecoder
from serve_app.codec.memory_plan import DecoderMemory
from serve_app.codec.mimi import empty_mimi, load_mimi
from serve_app.model.presets import preset_config
from serve_app.model.random_weights import random_tensors
from serve_app.model.weights import CODEC_PREFIX

SLOTS, BANK_SLOTS, TICKS, TOLERANCE = 4, 2, 12, 4
"""Tolerance of samples, of 32768: sums go in another order."""


def codec_config() -> MimiConfig:
    config = preset_config("tiny").codec_config
    assert isinstance(config, MimiConfig)
    return config


def decoder_on(device: str, num_slots: int = SLOTS, bank_slots: int = BANK_SLOTS) -> SlotDecoder:
    tensors = [t for t in random_tensors(preset_config("tiny"), seed=0) if t.name.startswith(CODEC_PREFIX)]
    stored = [(tensor.name.removeprefix(CODEC_PREFIX), tensor.make(0)) for tensor in tensors]
    decoder = SlotDecoder(load_mimi(stored, codec_config(), 32, torch.device(device)), num_slots, bank_slots)
    decoder.warm_up()
    return decoder


def opened(decoder: SlotDecoder) -> list[int]:
    return [slot for slot in (decoder.open() for _ in range(SLOTS)) if slot is not None]


def codes_of(num_streams: int) -> np.ndarray:
    """[TICKS, streams, codebooks]"""
    return np.random.default_rng(0).integers(0, codec_config().codebook_size, (TICKS, num_streams, 32))


def sound(device: str) -> np.ndarray:
    """[TICKS, SLOTS, samples]; the slots join one after the other."""
    decoder, codes = decoder_on(device), codes_of(SLOTS)
    slots = opened(decoder)
    ticks = []
    for tick in range(TICKS):
        running = slots[: tick + 1]
        decoded = decoder.decode({slot: codes[tick, number][None] for number, slot in enumerate(running)})
        ticks.append([decoded.get(slot, np.zeros(1920, dtype=np.int16)) for slot in slots])
    return np.array(ticks, dtype=np.int32)


def test_slots_sound_as_on_a_cpu() -> None:
    on_card, on_cpu = sound("cuda"), sound("cpu")
    assert np.abs(on_cpu).max() > 100
    assert np.abs(on_card - on_cpu).max() <= TOLERANCE


def test_a_stream_sounds_alike_in_every_slot_of_every_bank_bit_for_bit() -> None:
    """Only a card shows whether its libraries choose their kernels by the address or the mates of a row."""
    decoder, codes = decoder_on("cuda"), codes_of(1)
    slots = opened(decoder)
    alone = np.concatenate([decoder.decode({slots[0]: frame})[slots[0]] for frame in codes])
    together = [decoder.decode(dict.fromkeys(slots[1:], frame)) for frame in codes]
    for slot in slots[1:]:
        assert np.array_equal(np.concatenate([tick[slot] for tick in together]), alone), slot


def test_a_tick_copies_and_replays_without_making_the_host_wait() -> None:
    """Only a card knows its waits. The one for the samples is asked for by name and does not count here."""
    decoder, codes = decoder_on("cuda"), codes_of(1)
    slots = opened(decoder)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for frame in codes:
            decoder.decode(dict.fromkeys(slots, frame))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_two_banks_take_no_more_than_the_plan_says() -> None:
    """Only a card shows what graphs and workspaces take of what torch may allocate: the plan's estimates."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    decoder = decoder_on("cuda", num_slots=65, bank_slots=64)
    assert decoder.num_free == 65
    planned = DecoderMemory.of(empty_mimi(codec_config(), 32)).total_bytes(65)
    assert torch.cuda.memory_reserved() - before <= planned
