"""Which codec runs, and what is said where it is not the one that was hoped for."""

import logging
from collections.abc import Callable

import pytest

from serve_app.codec.decoder import SlotDecoder
from serve_app.codec.mimi import MimiModel
from serve_app.codec.native import decoder as native
from serve_app.codec.native.decoder import NativeSlotDecoder
from serve_app.codec.native.from_mimi import inexpressible
from serve_app.codec.step_choice import make_slots
from serve_app.errors import StartupError
from serve_app.settings import CodecSettings

NewMimi = Callable[[], MimiModel]


def test_a_cpu_with_a_compiler_decodes_natively_unless_told_otherwise(new_mimi: NewMimi) -> None:
    assert isinstance(make_slots(CodecSettings(), new_mimi()), NativeSlotDecoder)
    assert isinstance(make_slots(CodecSettings(step="native"), new_mimi()), NativeSlotDecoder)
    assert isinstance(make_slots(CodecSettings(step="moshi"), new_mimi()), SlotDecoder)


def test_without_a_compiler_moshi_decodes_and_the_log_says_why(
    new_mimi: NewMimi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler() -> None:
        raise StartupError("no C++ compiler was found")

    monkeypatch.setattr(native, "library", no_compiler)
    with caplog.at_level(logging.INFO):
        assert isinstance(make_slots(CodecSettings(), new_mimi()), SlotDecoder)
    assert "no C++ compiler was found" in caplog.text
    with pytest.raises(StartupError, match=r"codec\.step: native cannot run here \(no C\+\+ compiler"):
        make_slots(CodecSettings(step="native"), new_mimi())


def test_the_log_says_what_decodes(new_mimi: NewMimi, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("serve_app")
    logger.addHandler(caplog.handler)  # a server's log set-up in another test ends propagation
    try:
        with caplog.at_level(logging.INFO, "serve_app"):
            make_slots(CodecSettings(max_streams=3, threads=1), new_mimi())
    finally:
        logger.removeHandler(caplog.handler)
    assert "native decoder, 3 slots, 1 threads" in caplog.text


def test_a_mimi_that_the_kernels_cannot_express_is_named(new_mimi: NewMimi) -> None:
    mimi = new_mimi()
    mimi.decoder_transformer.transformer.layers[0].self_attn.context = 1
    assert "sliding_window" in (inexpressible(mimi) or "")
