"""An audition: a kept voice speaks three sentences, and what comes out is scored against its clips."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from serve_app.errors import CsmServeError
from serve_app.keys.key import Key
from serve_app.messages import FinishReason
from serve_app.settings import Settings
from serve_app.speech.build import Asked
from serve_app.speech.call import Call
from serve_app.speech.scene import Turn
from serve_app.speech.score import Likeness, Score, scored, words_heard
from serve_app.speech.service import SpeechService
from serve_app.voices.library import VoiceLibrary
from serve_app.voices.voice import Voice

SENTENCES = (
    "Hello there, how are you today?",
    "We can meet at the station in the morning.",
    "I think it is a good idea to wait for the rain to stop.",
)
_FIRST_SEED = 1
_PASSED = 0.8


class Auditions:
    def __init__(self, speech: SpeechService, library: VoiceLibrary, settings: Settings) -> None:
        self._speech = speech
        self._library = library
        self._settings = settings

    async def audition(self, voice: Voice, key: Key) -> Voice:
        """The voice with its scores in `report["audition"]`, which are kept. The key is charged for the speech.

        A sentence that cannot be spoken, because the key's limit is reached or no slot is free, ends the audition; the
        report says so. Raises UnknownVoice if the voice was removed meanwhile.
        """
        clips = np.frombuffer(b"".join(await self._library.sound(voice)), "<i2")
        likeness = await asyncio.to_thread(Likeness.of, clips)
        try:
            scores = [await self._score(voice, key, number, likeness) for number in range(len(SENTENCES))]
        except CsmServeError as error:
            return await self._library.note(voice, audition={"passed": None, "error": str(error)})
        return await self._library.note(voice, audition=_report(scores))

    async def _score(self, voice: Voice, key: Key, number: int, likeness: Likeness | None) -> Score:
        text = SENTENCES[number]
        asked = Asked([Turn(text, 0, voice=voice.id)], seed=_FIRST_SEED + number)
        scene = await self._speech.scene(asked, self._settings, key)
        async with await self._speech.open(scene, Call(f"audition-{voice.id}-{number}", key)) as answer:
            pcm = await answer.pcm()
        ear, is_whole = self._speech.ear, answer.outcome.finish_reason is FinishReason.EOS
        words = None if ear is None else words_heard(text, await ear.hears(pcm))
        num_words = sum(piece.num_words for turn in scene.turns for piece in turn.pieces)
        return await asyncio.to_thread(scored, np.frombuffer(pcm, "<i2"), num_words, is_whole, likeness, words)


def _report(scores: Sequence[Score]) -> dict[str, Any]:
    sentences = [
        {"text": text, "score": score.value, **asdict(score)} for text, score in zip(SENTENCES, scores, strict=True)
    ]
    return {"passed": all(score.value >= _PASSED for score in scores), "sentences": sentences}
