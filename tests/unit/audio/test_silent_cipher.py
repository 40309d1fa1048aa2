"""The adapter of SilentCipher, against a model with the signatures of its package (1.0.5)."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serve_app.audio.watermark.mark import Finding, open_watermark
from serve_app.errors import StartupError
from serve_app.settings import WatermarkSettings

KEY = "1,2,3,4,255"


class Model:
    """Adds the message's first number to each sample; resampling costs one at the end."""

    def __init__(self) -> None:
        self.message: list[int] = []

    def encode_wav(
        self,
        y_multi_channel: Any,
        orig_sr: int,
        message_list: list[int],
        message_sdr: float | None = None,
        calc_sdr: bool = True,
        disable_checks: bool = False,
    ) -> tuple[Any, float]:
        assert (orig_sr, y_multi_channel.ndim, y_multi_channel.dtype) == (24_000, 1, np.float32)
        assert isinstance(message_list[0], int)
        self.message = message_list
        return y_multi_channel[:-1] + message_list[0] / 100, 0.0

    def decode_wav(self, y_multi_channel: Any, orig_sr: int, phase_shift_decoding: bool) -> dict[str, Any]:
        if not self.message:
            return {"messages": [], "confidences": [], "error": "Could not find message", "status": False}
        return {"messages": [self.message], "confidences": [0.75], "status": True}


@pytest.fixture
def settings(tmp_path: Path) -> WatermarkSettings:
    (tmp_path / "hparams.yaml").touch()
    return WatermarkSettings.model_validate({"use": "silentcipher", "key": KEY, "weights": tmp_path})


def test_it_marks_every_sample_and_finds_its_own_key(
    settings: WatermarkSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model()
    monkeypatch.setitem(sys.modules, "silentcipher", SimpleNamespace(get_model=lambda **_: model))
    watermark = open_watermark(settings)
    assert watermark is not None
    pcm = np.full(2400, 1000, "<i2").tobytes()
    assert watermark.find(pcm) == Finding(False, 0.0)
    assert len(watermark.mark(pcm)) == len(pcm)
    assert model.message == [1, 2, 3, 4, 255]
    assert watermark.find(pcm) == Finding(True, 0.75)
    model.message = [9, 9, 9, 9, 9]
    assert not watermark.find(pcm).is_marked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": None}, "five numbers"),
        ({"key": "1,2,3,4,256"}, "five numbers"),
        ({"weights": None}, "hparams.yaml"),
        ({}, "not installed"),
        ({"use": "no.such:thing"}, "cannot be loaded"),
    ],
    ids=["no key", "a key beyond a byte", "no weights", "no package", "another that is not there"],
)
def test_what_is_missing_is_named_at_the_start(
    settings: WatermarkSettings, change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "silentcipher", None)
    with pytest.raises(StartupError, match=message):
        open_watermark(WatermarkSettings.model_validate(settings.model_dump() | change))
