"""An audition: a kept voice speaks three sentences, and what comes out is scored against its clips."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log2
from typing import Any, Protocol

import numpy as np

from serve_app.audio.voice_levels import Levels, pitch_hz
from serve_app.errors import CsmServeError
from serve_app.keys.key import Key
from serve_app.messages import FinishReason
from serve_app.settings import Settings
from serve_app.speech.build import Asked
from serve_app.speech.call import Call
from serve_app.speech.scene import Turn
from serve_app.speech.service import SpeechService
from serve_app.voices.library import VoiceLibrary
from serve_app.voices.voice import Voice

SENTENCES = (
    "Hello there, how are you today?",
    "We can meet at the station in the morning.",
    "I think it is a good idea to wait for the rain to stop.",
)
_FIRST_SEED = 1
_MAX_LOUDNESS_DB = 6.0
_MAX_SEMITONES = 3.0
_MIN_WORDS_HEARD = 0.8
_WORD = re.compile(r"[a-z0-9']+")


class Ear(Protocol):
    """Hears words."""

    async def hears(self, pcm: bytes) -> str:
        """The words in signed 16 bit mono PCM at 24 kHz. Raises errors of this project."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """Of one sentence. None: not measured."""

    text: str
    seconds: float
    ends_by_itself: bool
    loudness_db: float | None
    """Above the clips'."""
    pitch_semitones: float | None
    """Above the clips'."""
    words_heard: float | None
    """Share of the words that the ear heard, in order."""

    @property
    def is_good(self) -> bool:
        return (
            self.ends_by_itself
            and abs(self.loudness_db or 0.0) <= _MAX_LOUDNESS_DB
            and abs(self.pitch_semitones or 0.0) <= _MAX_SEMITONES
            and (1.0 if self.words_heard is None else self.words_heard) >= _MIN_WORDS_HEARD
        )


class Auditions:
    def __init__(self, speech: SpeechService, library: VoiceLibrary, settings: Settings, ear: Ear | None) -> None:
        self._speech = speech
        self._library = library
        self._settings = settings
        self._ear = ear

    async def audition(self, voice: Voice, key: Key) -> Voice:
        """The voice with its scores in `report["audition"]`, which are kept. The key is charged for the speech.

        A sentence that cannot be spoken, because the key's limit is reached or no slot is free, ends the audition; the
        report says so. Raises UnknownVoice if the voice was removed meanwhile.
        """
        clips = np.frombuffer(b"".join(await self._library.sound(voice)), "<i2")
        try:
            scores = [await self._score(voice, key, number, clips) for number in range(len(SENTENCES))]
        except CsmServeError as error:
            return await self._library.note(voice, audition={"passed": None, "error": str(error)})
        return await self._library.note(voice, audition=_report(scores))

    async def _score(self, voice: Voice, key: Key, number: int, clips: Any) -> Score:
        text = SENTENCES[number]
        asked = Asked([Turn(text, 0, voice=voice.id)], seed=_FIRST_SEED + number)
        scene = await self._speech.scene(asked, self._settings, key)
        async with await self._speech.open(scene, Call(f"audition-{voice.id}-{number}", key)) as answer:
            pcm = await answer.pcm()
        spoken = np.frombuffer(pcm, "<i2")
        pitch, wanted = pitch_hz(spoken), pitch_hz(clips)
        return Score(
            text=text,
            seconds=round(answer.outcome.audio_seconds, 2),
            ends_by_itself=answer.outcome.finish_reason is FinishReason.EOS,
            loudness_db=round(Levels(spoken).loudness_dbfs - Levels(clips).loudness_dbfs, 1),
            pitch_semitones=round(12 * log2(pitch / wanted), 2) if pitch and wanted else None,
            words_heard=None if self._ear is None else words_heard(text, await self._ear.hears(pcm)),
        )


def words_heard(text: str, heard: str) -> float:
    """Share of the words of `text` that come in `heard`, in order."""
    wanted, found = (_WORD.findall(words.lower()) for words in (text, heard))
    blocks = difflib.SequenceMatcher(None, wanted, found, autojunk=False).get_matching_blocks()
    return round(sum(block.size for block in blocks) / len(wanted), 2)


def _report(scores: Sequence[Score]) -> dict[str, Any]:
    return {"passed": all(score.is_good for score in scores), "sentences": [asdict(score) for score in scores]}
