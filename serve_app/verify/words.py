"""The check of the words: a speech recognizer's transcript beside the text. Recognizers are optional installs."""

import importlib
import importlib.util
import re
import unicodedata
from typing import Any, Protocol

import httpx
import numpy as np
import soxr
from numpy.typing import NDArray

from serve_app.messages import SAMPLE_RATE_HZ
from serve_app.verify.check import WORDS, Check, judged, not_run

HEARD_RATE_HZ = 16_000
_WHISPER = "base"
_MAX_ERROR_RATE = 0.5
"""A small recognizer alone does not make this many mistakes."""


class Recognizer(Protocol):
    name: str

    def transcribe(self, samples: NDArray[np.float32]) -> str:
        """The words in 16 kHz mono samples in -1..1."""
        ...


class FasterWhisper:
    name = f"faster-whisper {_WHISPER}"

    def transcribe(self, samples: NDArray[np.float32]) -> str:
        module: Any = importlib.import_module("faster_whisper")
        segments, _ = module.WhisperModel(_WHISPER, device="cpu", compute_type="int8").transcribe(samples)
        return " ".join(segment.text for segment in segments)


class Whisper:
    name = f"whisper {_WHISPER}"

    def transcribe(self, samples: NDArray[np.float32]) -> str:
        module: Any = importlib.import_module("whisper")
        return module.load_model(_WHISPER, device="cpu").transcribe(samples, fp16=False)["text"]


def find_recognizer() -> Recognizer | None:
    """The best installed recognizer."""
    if importlib.util.find_spec("faster_whisper"):
        return FasterWhisper()
    return Whisper() if importlib.util.find_spec("whisper") else None


def check_words(text: str, pcm: bytes, recognizer: Recognizer | None) -> Check:
    """Judge the words of speech (signed 16 bit little-endian mono PCM at 24 kHz). Not for noise."""
    if recognizer is None:
        return not_run(WORDS, "word error rate: not measured (pip install faster-whisper)")
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768
    try:
        heard = recognizer.transcribe(soxr.resample(samples, SAMPLE_RATE_HZ, HEARD_RATE_HZ))
    except (OSError, RuntimeError, ValueError, httpx.HTTPError) as error:
        # A recognizer fetches its weights at first use.
        return not_run(WORDS, f"{recognizer.name} cannot listen ({type(error).__name__}: {error})".splitlines()[0])
    rate = word_error_rate(text, heard)
    rows = [("word error rate", f"{rate:.0%} by {recognizer.name}"), ("heard", heard.strip())]
    values = {"word_error_rate": rate, "recognizer": recognizer.name, "heard": heard.strip(), "text": text}
    reasons = [f"{rate:.0%} of the words are wrong, to {recognizer.name}"] if rate > _MAX_ERROR_RATE else []
    return judged(WORDS, reasons, rows, values)


def word_error_rate(said: str, heard: str) -> float:
    """Word substitutions, deletions and insertions, over the number of words said (at least 1)."""
    wanted, found = words(said), words(heard)
    distances = list(range(len(found) + 1))
    for row, word in enumerate(wanted, start=1):
        diagonal, distances[0] = distances[0], row
        for column, other in enumerate(found, start=1):
            replaced = diagonal + (word != other)
            diagonal = distances[column]
            distances[column] = min(replaced, diagonal + 1, distances[column - 1] + 1)
    return distances[-1] / max(1, len(wanted))


def words(text: str) -> list[str]:
    """The words in lower case without punctuation. An apostrophe does not split a word."""
    plain = (
        unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("\N{RIGHT SINGLE QUOTATION MARK}", "")
    )
    return re.findall(r"\w+", plain)
