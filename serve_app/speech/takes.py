"""Several takes of an utterance, of which the best is kept: quality for jobs, whose callers can wait."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from serve_app.errors import CsmServeError
from serve_app.messages import (
    FRAME_RATE_HZ,
    MAX_TEMPERATURE,
    Accepted,
    AudioChunk,
    Draw,
    FinishReason,
    GenerationRequest,
    SamplingParams,
)
from serve_app.ports import AudioDecoder
from serve_app.speech.parts import Part
from serve_app.speech.scene import Quality
from serve_app.speech.score import Ear, Likeness, Score, scored, words_heard
from serve_app.speech.seeds import sub_seed

Speech = AsyncGenerator[Accepted | AudioChunk, None]
Speak = Callable[[GenerationRequest], Speech]


@dataclass(slots=True)
class _Take:
    """What one draw gave."""

    draw: Draw
    chunks: list[AudioChunk] = field(default_factory=list)

    @property
    def pcm(self) -> bytes:
        return b"".join(chunk.pcm for chunk in self.chunks)

    @property
    def seconds(self) -> float:
        return sum(chunk.num_frames for chunk in self.chunks) / FRAME_RATE_HZ

    @property
    def finish(self) -> FinishReason | None:
        return self.chunks[-1].finish

    @property
    def ends_by_itself(self) -> bool:
        """Without the rescue's help."""
        return self.finish is FinishReason.EOS and self.chunks[-1].attempt == 0


class Takes:
    """The takes of one answer. An utterance is drawn again until one is good enough, at most `candidates` times."""

    def __init__(self, quality: Quality, decoder: AudioDecoder, ear: Ear | None) -> None:
        """decoder: makes the sound of the voices that takes are compared with."""
        self._quality = quality
        self._decoder = decoder
        self._ear = ear
        self._voices: dict[int, Likeness | None] = {}
        self._is_deaf = ear is None
        self._kept: list[dict[str, Any]] = []
        self.dropped_seconds = 0.0
        """Audio that was made and not kept."""
        self.drawn: Draw | None = None
        """Of the take that was kept last."""

    @property
    def report(self) -> dict[str, Any]:
        """What was drawn and kept, as JSON. It holds no text."""
        drawn = sum(len(utterance["takes"]) for utterance in self._kept)
        return {
            "candidates": self._quality.candidates,
            "drawn": drawn,
            "dropped_seconds": round(self.dropped_seconds, 2),
            "words_checked": not self._is_deaf,
            "utterances": self._kept,
        }

    async def best(self, request: GenerationRequest, part: Part, speak: Speak) -> Speech:
        """`Accepted` of the first take as soon as it comes, then the chunks of the best one."""
        best: tuple[Score, _Take] | None = None
        scores: list[Score] = []
        while best is None or (len(scores) < self._quality.candidates and best[0].value < self._quality.good_enough):
            take = _Take(self._draw(request.sampling, len(scores)))
            drawn = replace(request.sampling, seed=take.draw.seed, temperature=take.draw.temperature)
            again = replace(request, sampling=drawn)
            async with aclosing(speak(again)) as messages:
                async for message in messages:
                    if isinstance(message, AudioChunk):
                        take.chunks.append(message)
                    elif not scores:
                        yield message
            score = await self._score(request, part, take)
            scores.append(score)
            self.dropped_seconds += take.seconds
            if best is None or score.value > best[0].value:
                best = score, take
            if take.finish in (FinishReason.CANCELLED, FinishReason.ERROR):
                break
        _, kept = best
        self.dropped_seconds -= kept.seconds
        self.drawn = kept.draw
        self._kept.append(_noted(part, scores, scores.index(best[0])))
        for chunk in kept.chunks:
            yield chunk

    def _draw(self, sampling: SamplingParams, number: int) -> Draw:
        temperature = min(sampling.temperature * self._quality.spread**number, MAX_TEMPERATURE)
        return Draw(sub_seed(sampling.seed, 0, 0, number), temperature)

    async def _score(self, request: GenerationRequest, part: Part, take: _Take) -> Score:
        pcm = take.pcm
        words = await self._words_heard(part.piece.text, pcm) if pcm else 0.0
        voice = await self._voice(request)
        samples = np.frombuffer(pcm, "<i2")
        return await asyncio.to_thread(scored, samples, part.piece.num_words, take.ends_by_itself, voice, words)

    async def _words_heard(self, text: str, pcm: bytes) -> float | None:
        """None without an ear. A job is spoken all the same where the ear fails."""
        if self._ear is None or self._is_deaf:
            return None
        try:
            return words_heard(text, await self._ear.hears(pcm))
        except CsmServeError:
            self._is_deaf = True
            return None

    async def _voice(self, request: GenerationRequest) -> Likeness | None:
        """Of the first passage that the speaker says in the context. None while there is none."""
        if self._voices.get(request.speaker) is None:
            first = next((passage for passage in request.context if passage.speaker == request.speaker), None)
            if first is not None:
                samples = np.frombuffer(await self._decoder.decode(first.codes), "<i2")
                self._voices[request.speaker] = await asyncio.to_thread(Likeness.of, samples)
        return self._voices.get(request.speaker)


def _noted(part: Part, scores: list[Score], kept: int) -> dict[str, Any]:
    takes = [{"score": score.value, **asdict(score)} for score in scores]
    return {"turn": part.turn, "part": part.number, "kept": kept, "takes": takes}
