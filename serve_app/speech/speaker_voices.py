"""A voice for each speaker to whom neither caller nor checkpoint gives one.

Without it CSM draws a new voice at each call. It is spoken once, from a seed of the speaker's own, and
kept for all replicas, so that a speaker sounds the same from then on.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable

from serve_app.messages import (
    DEMO_VOICE,
    TRAINED,
    AudioChunk,
    Codes,
    ContextSegment,
    FinishReason,
    ModelInfo,
    SamplingParams,
)
from serve_app.settings import Settings
from serve_app.speech.build import Asked, build_scene
from serve_app.speech.files import SpeechFiles
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import SpeechRequest
from serve_app.speech.scene import Scene, Turn
from serve_app.voices.arrays import codes_file, codes_of

_TEXT = "I am glad to talk with you on this fine day."
_MAX_SECONDS = 8.0
_MIN_FRAMES = 12
_MAX_TRIES = 4
_FIRST_SEED = 1000
_log = logging.getLogger(__name__)


class SpeakerVoices:
    """Owns no voice of a caller. Thread-unsafe: one event loop uses it."""

    def __init__(self, pipeline: SpeechPipeline, files: SpeechFiles, settings: Settings) -> None:
        self._pipeline = pipeline
        self._files = files
        self._settings = settings
        self._voices: dict[int, ContextSegment | None] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def known(self) -> list[ContextSegment]:
        """Those that were asked for before."""
        return [voice for voice in self._voices.values() if voice is not None]

    async def segments(self, speakers: Iterable[int]) -> tuple[ContextSegment, ...]:
        """Voices of those speakers whom the checkpoint gives none. The first call for a speaker speaks it.

        Raises errors of the pipeline and StorageFailed.
        """
        info = await self._pipeline.info()
        if info.weights not in (TRAINED, DEMO_VOICE):  # noise sounds the same without a voice
            return ()
        missing = sorted(set(speakers) - set(await self._pipeline.default_voices()))
        found = [await self._voice(speaker, info) for speaker in missing]
        return tuple(voice for voice in found if voice is not None)

    async def _voice(self, speaker: int, info: ModelInfo) -> ContextSegment | None:
        async with self._locks[speaker]:
            if speaker not in self._voices:
                self._voices[speaker] = await self._kept(speaker, info)
            return self._voices[speaker]

    async def _kept(self, speaker: int, info: ModelInfo) -> ContextSegment | None:
        parts = (info.model, await self._pipeline.encoder.codec(), str(speaker))
        scene = build_scene(Asked([Turn(_TEXT, speaker)]), info, self._settings)
        text = " ".join(piece.text for piece in scene.turns[0].pieces)
        kept = await self._files.find_voice(*parts)
        if kept is None:
            codes = await self._spoken(speaker, scene)
            if codes is None:
                _log.warning("speaker %d has no voice: its sentence did not end by itself", speaker)
                return None
            kept = await self._files.put_voice(codes_file([codes]), *parts)
        return ContextSegment(text, speaker, codes_of(kept)[0], anchor=True, public=True)

    async def _spoken(self, speaker: int, scene: Scene) -> Codes | None:
        """The codes of the first try that ends by itself."""
        for number in range(_MAX_TRIES):
            seed = _FIRST_SEED + speaker * _MAX_TRIES + number
            request = SpeechRequest(
                f"speaker-{speaker}", scene.turns, (), SamplingParams(seed=seed), _MAX_SECONDS, is_streamed=False
            )
            chunks = [chunk async for chunk in self._pipeline.stream(request) if isinstance(chunk, AudioChunk)]
            codes = Codes(b"".join(chunk.codes.data for chunk in chunks), chunks[0].codes.num_codebooks)
            if chunks[-1].finish is FinishReason.EOS and codes.num_frames >= _MIN_FRAMES:
                return codes
        return None
