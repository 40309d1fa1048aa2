"""The codec's slots on the card sound as they do on a CPU."""

import numpy as np
import pytest
import torch

# Before moshi, which decides on being imported whether it compiles.
import serve_app.codec  # noqa: F401

pytest.importorskip("moshi", reason="moshi is not installed; carry it as a wheel (docs/benchmarks.md)")

from transformers import MimiConfig

from serve_app.codec.decoder import SlotDecoder
from serve_app.codec.mimi import load_mimi
from serve_app.model.presets import preset_config
from serve_app.model.random_weights import random_tensors
from serve_app.model.weights import CODEC_PREFIX

SLOTS, TICKS, TOLERANCE = 4, 12, 4
"""Tolerance of samples, of 32768: sums go in another order."""


def sound(device: str) -> np.ndarray:
    """[TICKS, SLOTS, samples]; the slots join one after the other."""
    config = preset_config("tiny")
    assert isinstance(config.codec_config, MimiConfig)
    tensors = [t for t in random_tensors(config, seed=0) if t.name.startswith(CODEC_PREFIX)]
    stored = [(tensor.name.removeprefix(CODEC_PREFIX), tensor.make(0)) for tensor in tensors]
    decoder = SlotDecoder(load_mimi(stored, config.codec_config, 32, torch.device(device)), SLOTS)
    decoder.warm_up()
    codes = np.random.default_rng(0).integers(0, config.codec_config.codebook_size, (TICKS, SLOTS, 32))
    slots = [slot for slot in (decoder.open() for _ in range(SLOTS)) if slot is not None]
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
