"""espeak-ng as a library: the sound of a text, and where in it each phoneme begins.

Source: espeak-ng's speak_lib.h (events, initialisation) and its voice files (pitch, flutter, roughness, formant).
"""

import ctypes
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LIBRARY = "libespeak-ng.so.1"
_RETRIEVAL, _PHONEME_EVENTS = 2, 1
_RATE_PARAMETER, _UTF8 = 1, 1
_WORD, _PHONEME = 1, 7

VOICES = (
    "pitch 109 109\nflutter 0\nroughness 0\n",
    "pitch 209 209\nflutter 0\nroughness 0\nformant 1 108\nformant 2 112\nformant 3 112\n",
)
"""Two variants of en-us whose pitch is the same all the time."""
PITCH_HZ = (99.98467, 199.99133)
"""What these pitches come to, measured."""

WORDS_A_MINUTE = 150


@dataclass(frozen=True, slots=True)
class Phoneme:
    """Begins at `start`, in samples; belongs to the `word_length` characters of the text from `word_start` on."""

    name: str
    start: int
    word_start: int
    word_length: int

    @property
    def is_pause(self) -> bool:
        return self.name.startswith("_")


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Loaded:
    """The library, set up. It keeps its state in globals, so it is loaded once a process."""

    def __init__(self) -> None:
        self.calls = ctypes.CDLL(_LIBRARY)
        self._data = tempfile.TemporaryDirectory()  # kept, since the library reads voices from it at each call
        _lay_out(Path(self._data.name) / "espeak-ng-data", _installed_data())
        folder = self._data.name.encode()
        self.sample_rate: int = self.calls.espeak_Initialize(_RETRIEVAL, 0, folder, _PHONEME_EVENTS)


_loaded = cache(_Loaded)


class Espeak:
    """Several may take turns in one process; they share the library."""

    def __init__(self, words_a_minute: int = WORDS_A_MINUTE) -> None:
        """Raises OSError where espeak-ng is not installed."""
        self._library = _loaded().calls
        self.sample_rate = _loaded().sample_rate
        self._waves: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, int, int, int, str]] = []
        self._callback = _Callback(self._take)  # kept, or it would be freed while the library calls it
        self._words_a_minute = words_a_minute

    def speak(self, text: str, voice: int) -> tuple[NDArray[np.float32], list[Phoneme]]:
        """The sound, in -1 to 1, and its phonemes, pauses among them."""
        self._waves.clear()
        self._events.clear()
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_SetVoiceByName(f"en-us+robot{voice}".encode())
        self._library.espeak_SetParameter(_RATE_PARAMETER, self._words_a_minute, 0)
        said = text.encode()
        self._library.espeak_Synth(said, len(said) + 1, 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        wave = np.concatenate(self._waves).astype(np.float32) / np.float32(32768)
        return wave.astype(np.float32), list(self._phonemes())

    def _phonemes(self) -> Iterator[Phoneme]:
        word = (0, 0)
        for kind, position, length, sample, name in self._events:
            if kind == _WORD:
                word = (position - 1, length)
            elif kind == _PHONEME and name:
                yield Phoneme(name, sample, *word)

    def _take(self, wave: Any, num_samples: int, events: Any) -> int:
        number = 0
        while (event := events[number]).type:
            name = event.id.string.decode() if event.type == _PHONEME else ""
            self._events.append((event.type, event.text_position, event.length, event.sample, name))
            number += 1
        if wave and num_samples:
            self._waves.append(np.ctypeslib.as_array(wave, (num_samples,)).copy())
        return 0


def _installed_data() -> Path:
    said = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout
    return Path(said.partition("Data at: ")[2].strip())


def _lay_out(folder: Path, installed: Path) -> None:
    """The installed data with our voices in it; nothing outside `folder` is written."""
    variants = folder / "voices" / "!v"
    variants.mkdir(parents=True)
    for entry in installed.iterdir():
        if entry.name != "voices":
            (folder / entry.name).symlink_to(entry)
    for number, voice in enumerate(VOICES):
        (variants / f"robot{number}").write_text(f"language variant\nname robot{number}\n{voice}")
