"""SilentCipher (Sony), the watermark of Sesame's own repository. Package and weights are the operator's to install.

Its metadata ask for a torch of 2023, so it is installed with `pip install --no-deps`. API as of version 1.0.5.
"""

import re
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.audio.watermark.mark import Finding
from serve_app.errors import StartupError
from serve_app.messages import SAMPLE_RATE_HZ
from serve_app.settings import WatermarkSettings

_KEY = re.compile(r"\d{1,3}(,\d{1,3}){4}")
_FULL_SCALE = 32_767
_SDR_DB = 36
"""The strength that Sesame uses; SilentCipher's default of 47 does not survive resampling from 24 kHz."""


def open_watermark(settings: WatermarkSettings) -> "SilentCipher":
    """Raises StartupError for a missing package, weights or key."""
    key = settings.key.get_secret_value().replace(" ", "") if settings.key else ""
    if not _KEY.fullmatch(key) or max(numbers := [int(number) for number in key.split(",")]) > 255:
        raise StartupError("watermark.key must be five numbers from 0 to 255, such as 12,34,56,78,90: choose your own")
    folder = settings.weights
    if folder is None or not (folder / "hparams.yaml").exists():
        raise StartupError("watermark.weights must name the folder of SilentCipher's 44.1k model with its hparams.yaml")
    return SilentCipher(_model(folder), numbers)


def _model(folder: Path) -> Any:
    try:
        silentcipher: Any = import_module("silentcipher")
    except ImportError as error:
        raise StartupError(
            f"watermark.use is silentcipher, which is not installed ({error}): see docs/security.md, Watermark"
        ) from error
    return silentcipher.get_model(model_type="44.1k", ckpt_path=str(folder), config_path=str(folder / "hparams.yaml"))


class SilentCipher:
    name = "silentcipher"
    block_seconds = 2.0

    def __init__(self, model: Any, key: list[int]) -> None:
        """`model`: of `silentcipher.get_model`."""
        self._model = model
        self._key = key
        self._in_use = threading.Lock()

    def mark(self, pcm: bytes) -> bytes:
        samples = _floats(pcm)
        with self._in_use:
            marked, _ = self._model.encode_wav(samples, SAMPLE_RATE_HZ, self._key, message_sdr=_SDR_DB, calc_sdr=False)
        # Resampling there and back may add or lose a sample.
        fitted = np.resize(marked[: len(samples)], len(samples)) if len(marked) else samples
        return np.rint(np.clip(fitted, -1, 1) * _FULL_SCALE).astype("<i2").tobytes()

    def find(self, pcm: bytes) -> Finding:
        with self._in_use:
            found = self._model.decode_wav(_floats(pcm), SAMPLE_RATE_HZ, True)
        if not found["status"]:
            return Finding(False, 0.0)
        is_ours = [list(message) == self._key for message in found["messages"]]
        return Finding(any(is_ours), float(max(found["confidences"], default=0.0)))


def _floats(pcm: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(_FULL_SCALE)
