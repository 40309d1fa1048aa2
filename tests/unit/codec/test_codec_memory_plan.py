"""The audio decoder's plan is what its banks really take, and what does not fit is refused before it is loaded."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import MimiConfig

from serve_app.codec import loading
from serve_app.codec.decoder import SlotDecoder
from serve_app.codec.memory_plan import DecoderMemory, announce
from serve_app.codec.mimi import MimiModel, empty_mimi
from serve_app.codec.slots import load_slots
from serve_app.errors import StartupError
from serve_app.model.device_memory import DeviceMemory
from serve_app.model.presets import preset_config
from serve_app.settings import CodecSettings, Settings
from tests.support.small_mimi import NUM_CODEBOOKS

GB = 10**9


def memory(free_gb: float) -> DeviceMemory:
    return DeviceMemory(int(free_gb * GB), "codec.memory_fraction 0.15 of a card", 24 * GB, 20 * GB)


@pytest.fixture(scope="module")
def full_size() -> DecoderMemory:
    config = preset_config("csm-1b").codec_config
    assert isinstance(config, MimiConfig)
    return DecoderMemory.of(empty_mimi(config, 32))


@pytest.mark.parametrize("num_slots", [3, 65])
def test_weights_and_banks_are_planned_with_next_to_nothing_to_spare(
    new_mimi: Callable[[], MimiModel], config: MimiConfig, num_slots: int
) -> None:
    """No other test compares the plan with a decoder. Of 65 slots, 128 take memory."""
    mimi = new_mimi()
    decoder = SlotDecoder(mimi, num_slots)
    slot = decoder.open()
    assert slot is not None
    decoder.decode({slot: np.zeros((1, NUM_CODEBOOKS), np.int64)})
    weights = sum(tensor.nbytes for tensor in [*mimi.parameters(), *mimi.buffers()])
    banks = 0
    for bank in decoder._banks:
        held = [bank._codes, bank._samples]
        for state in bank._state.values():
            values = list(vars(state).values())
            held += [value for value in values if hasattr(value, "nbytes")]
            held += [value.cache for value in values if hasattr(value, "cache")]
        banks += sum({tensor.data_ptr(): tensor.nbytes for tensor in held}.values())
    planned, streams, *_ = DecoderMemory.of(empty_mimi(config, NUM_CODEBOOKS)).rows(num_slots)
    assert planned.num_bytes == weights
    assert banks <= streams.num_bytes < 1.01 * banks


def test_a_whole_bank_more_is_planned_for_the_slot_that_no_longer_fits_into_one(full_size: DecoderMemory) -> None:
    """At full size: a slot's 250 positions of 8 layers are most of its 8.2 MB."""
    keys_and_values = 8 * 2 * 512 * 250 * 4
    assert keys_and_values < full_size.slot_bytes < 1.01 * keys_and_values
    one, two = full_size.rows(64)[1].num_bytes, full_size.rows(65)[1].num_bytes
    assert two == 2 * one == 128 * full_size.slot_bytes


def test_what_does_not_fit_is_refused_with_remedies_that_work(full_size: DecoderMemory) -> None:
    """No other test reads the decoder's refusal."""
    with pytest.raises(StartupError, match=r"codec\.max_streams 400 needs 4\.59 GB, 3\.60 GB are free") as refusal:
        announce(full_size, 400, memory(3.6))
    slots, fraction = re.findall(r"(\d+) slots would fit, or codec\.memory_fraction ([\d.]+)", str(refusal.value))[0]
    announce(full_size, int(slots), memory(3.6))
    announce(full_size, 400, memory(float(fraction) * 24))
    assert int(slots) == 320, "one more would need another bank"
    with pytest.raises(StartupError, match="needs a larger device"):
        announce(full_size, 1, DeviceMemory(GB // 10, "a small card", GB, GB // 10))


def test_a_decoder_is_refused_before_its_weights_are_loaded_and_an_encoder_has_no_banks(
    tiny_checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other test starts a decoder on a card that is too small."""
    loaded = list[str]()
    monkeypatch.setattr(loading, "claim_memory", lambda *_: memory(0.2))
    monkeypatch.setattr(loading, "load_mimi", lambda *_: loaded.append("weights"))
    settings = Settings(
        model=str(tiny_checkpoint_folder), device="cpu", codec=CodecSettings(step="moshi", max_streams=1000)
    )
    with pytest.raises(StartupError, match=r"codec\.max_streams 1000"):
        load_slots(settings)
    assert loaded == []
    loading.load_codec(settings)
    assert loaded == ["weights"]
