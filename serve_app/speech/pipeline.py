"""From a speech request to its audio: encode the context, speak turn after turn, each conditioned on those before."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from serve_app import log
from serve_app.errors import InvalidRequest
from serve_app.messages import (
    FRAME_RATE_HZ,
    Accepted,
    AudioChunk,
    Codes,
    ContextSegment,
    FinishReason,
    GenerationRequest,
    ModelInfo,
)
from serve_app.ports import AudioDecoder, ContextEncoder
from serve_app.speech.request import ContextClip, SpeechRequest
from serve_app.speech.scene import Turn
from serve_app.speech.turns import frame_cap, turn_seed
from serve_app.speech.watch import Watcher

_CONTINUING = -1
"""Priority of a scene's later turns: somebody is listening already."""


class SpeechPipeline:
    """The whole path behind every API dialect, over the ports of the graph."""

    def __init__(self, encoder: ContextEncoder, decoder: AudioDecoder, watcher: Watcher | None = None) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._watcher = watcher or Watcher()
        self._info: ModelInfo | None = None
        self._voices: dict[int, ContextSegment] | None = None

    async def info(self) -> ModelInfo:
        """What is served; asked once, since a checkpoint does not change under a running graph."""
        if self._info is None:
            self._info = await self._decoder.info()
        return self._info

    async def check_ready(self) -> None:
        """Return once every model behind this pipeline answers."""
        await asyncio.gather(self._decoder.info(), self._default_voices())

    async def stream(self, request: SpeechRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield `Accepted` once, then the audio of all turns; a last chunk without audio carries `finish`.

        Closing it frees every slot behind it. Raises what the ports raise; before `Accepted` nothing was spoken.
        """
        log.current_request_id.set(request.request_id)
        with self._watcher.answer(request) as watched:
            traced = replace(request, trace=watched.traceparent)
            async with aclosing(self._speak(traced)) as messages:
                async for message in messages:
                    watched.note(message)
                    yield message

    async def _speak(self, request: SpeechRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        answer = _Answer(request, await self._context(request))
        for number, turn in enumerate(request.turns):
            async with aclosing(self._turn(answer.next_turn(number), number)) as messages:
                async for message in messages:
                    if isinstance(message, AudioChunk):
                        yield answer.take(message)
                    elif number == 0:
                        yield replace(message, request_id=request.request_id)
            answer.end_turn(turn)
            if answer.is_over:
                break
        yield answer.last_chunk()

    async def _turn(self, request: GenerationRequest, number: int) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """What the decoder yields. The engine knows one text; here it gets its path in the scene."""
        try:
            async with aclosing(self._decoder.stream(request)) as messages:
                async for message in messages:
                    yield message
        except InvalidRequest as error:
            raise (error.at(f"turns[{number}].text") if error.field == "text" else error) from None

    async def _context(self, request: SpeechRequest) -> list[ContextSegment]:
        """The caller's clips; and for each speaker of the scene without one, the voice the checkpoint brings."""
        encoded = await self._encoded(request)
        given = [
            ContextSegment(clip.text, clip.speaker, codes, anchor=_opens_voice(clip, request))
            for clip, codes in zip(request.context, encoded, strict=True)
        ]
        missing = {turn.speaker for turn in request.turns} - {clip.speaker for clip in request.context}
        voices = await self._default_voices()
        return [voices[speaker] for speaker in sorted(missing) if speaker in voices] + given

    async def _encoded(self, request: SpeechRequest) -> list[Codes]:
        if not request.context:
            return []
        with self._watcher.tracer.span("encode", request.trace, clips=len(request.context)):
            return await asyncio.gather(*(self._encoder.encode(clip.pcm) for clip in request.context))

    async def _default_voices(self) -> dict[int, ContextSegment]:
        if self._voices is None:
            self._voices = await self._encoder.default_voices()
        return self._voices


def _opens_voice(clip: ContextClip, request: SpeechRequest) -> bool:
    """A speaker's first clip holds the voice, and is kept when the context must be cut."""
    return next(other for other in request.context if other.speaker == clip.speaker) is clip


def _num_frames(seconds: float) -> int:
    """Whole frames in `seconds`, at least one. Rounded first: 29 / 12.5 * 12.5 is a hair below 29."""
    return max(1, int(round(seconds * FRAME_RATE_HZ, 6)))


class _Answer:
    """How far an answer is: what was spoken conditions the next turn."""

    def __init__(self, request: SpeechRequest, context: list[ContextSegment]) -> None:
        self._request = request
        self._context = context
        self._turn_chunks: list[AudioChunk] = []
        self._no_codes: Codes | None = None
        self._num_frames = 0
        self._played_out_at = 0.0
        self._turns_left = len(request.turns)
        self._turn = 0
        self._finish = FinishReason.EOS
        self._max_frames = _num_frames(request.max_audio_seconds)

    @property
    def frames_left(self) -> int:
        return self._max_frames - self._num_frames

    @property
    def is_over(self) -> bool:
        """Nothing more may be spoken, or the engine gave up on it."""
        return self.frames_left <= 0 or self._finish in (FinishReason.CANCELLED, FinishReason.ERROR)

    def next_turn(self, number: int) -> GenerationRequest:
        self._turn = number
        request, turn = self._request, self._request.turns[number]
        return GenerationRequest(
            request_id=request.request_id if len(request.turns) == 1 else f"{request.request_id}-{number}",
            text=turn.text,
            speaker=turn.speaker,
            context=tuple(self._context),
            sampling=replace(
                request.sampling,
                seed=turn_seed(request.sampling.seed, number),
                max_frames=min(frame_cap(turn.text), self.frames_left),
            ),
            priority=request.priority if number == 0 or request.priority > 0 else _CONTINUING,
            becomes_context=number < len(request.turns) - 1,
            paced=request.is_streamed,
            lead_seconds=max(0.0, self._played_out_at - time.monotonic()),
            trace=request.trace,
        )

    def take(self, chunk: AudioChunk) -> AudioChunk:
        """A turn's chunk as one of the whole answer."""
        self._turn_chunks.append(chunk)
        if chunk.finish is not None and self._finish is FinishReason.EOS:
            self._finish = chunk.finish
        first_frame = self._num_frames
        self._num_frames += chunk.codes.num_frames
        self._played_out_at = max(self._played_out_at, time.monotonic()) + chunk.codes.num_frames / FRAME_RATE_HZ
        return replace(chunk, first_frame=first_frame, finish=None, turn=self._turn)

    def end_turn(self, turn: Turn) -> None:
        self._turns_left -= 1
        assert self._turn_chunks, "a stream ends with a chunk that carries finish"
        self._no_codes = Codes.empty(self._turn_chunks[0].codes.num_codebooks)
        codes = replace(self._no_codes, data=b"".join(chunk.codes.data for chunk in self._turn_chunks))
        self._turn_chunks.clear()
        if codes.num_frames:  # a transcript with no sound under it would teach the next turn to skip words
            self._context.append(ContextSegment(turn.text, turn.speaker, codes))

    def last_chunk(self) -> AudioChunk:
        assert self._no_codes is not None, "a request has a turn"
        if self._turns_left and self.frames_left <= 0:
            self._finish = FinishReason.LENGTH
        return AudioChunk(self._num_frames, b"", self._no_codes, self._finish, self._turn)
