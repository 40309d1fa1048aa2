"""Listens to a served checkpoint: the same texts from each of its speakers, how each ends and how good it is."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr

from serve_app.messages import SAMPLE_RATE_HZ, AudioChunk, FinishReason
from serve_app.speech.build import Asked
from serve_app.speech.rescue import PieceEnd
from serve_app.speech.scene import Quality, Turn
from serve_app.speech.score import Ear
from serve_app.speech.takes import Takes
from serve_app.verify.served import ServedModel
from serve_app.verify.words import HEARD_RATE_HZ, Recognizer

TEXTS = (
    "Good morning, did you sleep well?",
    "The train leaves in ten minutes.",
    "I will call you back this afternoon.",
    "She put the letter on the table and went out.",
    "No, thank you.",
    "It has been raining for three days now.",
    "Could you open the window a little?",
    "We walked along the river until it was dark.",
    "That is a very good question.",
    "My brother lives near the old market.",
    "Please wait here for a moment.",
    "They had never seen so much snow.",
    "Yes, of course.",
    "The children are playing in the garden.",
    "You can leave your coat on the chair.",
    "I am sorry, but we are closed on Sundays.",
)
_ENDS = {FinishReason.RUNAWAY: PieceEnd.CUT, FinishReason.LENGTH: PieceEnd.LIMIT}


@dataclass(frozen=True, slots=True)
class Heard:
    """One utterance of a speaker. `pcm`: signed 16 bit little-endian mono at 24 kHz."""

    speaker: int
    text: str
    seed: int
    pcm: bytes
    end: PieceEnd
    redraws: int
    """How often the rescue drew it again."""
    score: Mapping[str, Any]
    """The fields of `speech.score.Score`, and `score`."""


class RecognizersEar:
    """An ear that has its recognizer in this process."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer

    async def hears(self, pcm: bytes) -> str:
        samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768
        resampled = soxr.resample(samples, SAMPLE_RATE_HZ, HEARD_RATE_HZ)
        return await asyncio.to_thread(self._recognizer.transcribe, resampled)


async def listen(
    model: ServedModel, texts: Sequence[str], ear: Ear | None, speakers: Sequence[int] = ()
) -> list[Heard]:
    """Each of `speakers` says all `texts`, many at once.

    speakers: where it is empty, those whose voices the checkpoint brings, or speaker 0 where it brings none.
    """
    speakers = speakers or sorted(await model.pipeline().default_voices()) or [0]
    at_once = asyncio.Semaphore((await model.tokens.info()).max_batch_size)

    async def one(speaker: int, seed: int, text: str) -> Heard:
        async with at_once:
            return await _heard(model, speaker, seed, text, ear)

    wanted = [(speaker, seed, text) for speaker in speakers for seed, text in enumerate(texts)]
    return await asyncio.gather(*(one(*each) for each in wanted))


async def _heard(model: ServedModel, speaker: int, seed: int, text: str, ear: Ear | None) -> Heard:
    takes = Takes(Quality(candidates=1), model.pipeline().decoder, ear)
    messages = model.stream(Asked([Turn(text, speaker)]), seed, takes=takes)
    chunks = [message async for message in messages if isinstance(message, AudioChunk)]
    redraws, finish = max(chunk.attempt for chunk in chunks), chunks[-1].finish
    end = PieceEnd.RESCUED if redraws else PieceEnd.ITSELF
    if finish is not FinishReason.EOS:
        end = _ENDS.get(finish or FinishReason.ERROR, PieceEnd.BROKEN)
    (utterance, *_) = takes.report["utterances"]
    return Heard(
        speaker, text, seed, b"".join(chunk.pcm for chunk in chunks), end, redraws, score=utterance["takes"][0]
    )
