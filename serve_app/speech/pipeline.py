"""Turns a speech request into audio: encodes the context and speaks the parts, each conditioned on those before."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from serve_app import log
from serve_app.errors import InvalidRequest
from serve_app.messages import (
    DEMO_VOICE,
    TRAINED,
    Accepted,
    AdapterRef,
    AudioChunk,
    Codes,
    ContextSegment,
    GenerationRequest,
    ModelInfo,
    SamplingParams,
)
from serve_app.ports import AudioDecoder, ContextEncoder
from serve_app.speech.context_fit import fitting, opens_voice
from serve_app.speech.parts import Part, parts_of
from serve_app.speech.request import ContextClip, SpeechRequest
from serve_app.speech.rescue import Rescue
from serve_app.speech.spoken import Memory, Spoken
from serve_app.speech.takes import Takes
from serve_app.speech.watch import Watcher

_ENCODED_AT_ONCE = 4
"""Clips of one request. The encoder takes a key's clips in order, so those of its other requests get their turn."""


_READ_ALONG = "Hm."


class SpeechPipeline:
    """The whole path behind every API dialect, over the ports of the graph."""

    def __init__(self, encoder: ContextEncoder, decoder: AudioDecoder, watcher: Watcher | None = None) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self._watcher = watcher or Watcher()
        self._info: ModelInfo | None = None
        self._voices: dict[int, ContextSegment] | None = None

    async def info(self) -> ModelInfo:
        """The served model. Asked once, since a checkpoint does not change while the graph runs."""
        if self._info is None:
            self._info = await self.decoder.info()
        return self._info

    async def check_adapter(self, ref: AdapterRef) -> None:
        """Raises CheckpointError where it cannot be served."""
        await self.decoder.check_adapter(ref)

    async def check_ready(self) -> None:
        """Return once every model behind this pipeline answers."""
        await asyncio.gather(self.decoder.info(), self.default_voices())

    async def stream(
        self, request: SpeechRequest, coming: AsyncIterator[Part] | None = None, takes: Takes | None = None
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield `Accepted` once, then the audio of all parts. A last chunk without audio carries `finish`.

        coming: the parts of a text that is still growing, at least one, instead of those of the request's turns. No
        slot is taken while one is awaited. takes: keeps the best of several takes of each. Closing the stream frees
        every slot behind it. Raises errors of the ports and of `coming`. Before `Accepted` nothing was spoken.
        """
        log.current_request_id.set(request.request_id)
        with self._watcher.answer(request) as watched:
            traced = replace(request, trace=watched.traceparent)
            parts = watched.awaited(coming) if coming is not None else _known(parts_of(request.turns))
            async with aclosing(self._speak(traced, parts, takes)) as messages:
                async for message in messages:
                    watched.note(message)
                    yield message

    async def segments(self, clips: Sequence[ContextClip], owner: str) -> tuple[ContextSegment, ...]:
        """Recordings of a key as context, in codes."""
        codes = await self._encoded(clips, "", owner)
        return tuple(ContextSegment(clip.text, clip.speaker, each) for clip, each in zip(clips, codes, strict=True))

    async def prepare(self, request: SpeechRequest) -> int:
        """Have a generator read what `request` is conditioned on, so that its prefix cache holds it. Its positions.

        It is read as background work, and one frame is made and dropped.
        """
        info = await self.info()
        memory = Memory(await self._context(request), info.trained_for.longest_context_seconds)
        for segment in request.history:
            memory.add(segment)
        speaker = request.turns[0].speaker
        reading = GenerationRequest(
            request_id=request.request_id,
            text=_READ_ALONG,
            speaker=speaker,
            context=memory.segments(),
            sampling=SamplingParams(max_frames=1),
            priority=1,
            adapter=request.adapter_of(0),
            owner=request.owner,
        )
        positions = 0
        async with aclosing(self.decoder.stream(reading)) as messages:
            async for message in messages:
                if isinstance(message, Accepted):
                    positions = message.prompt_tokens
        return positions

    async def _speak(
        self, request: SpeechRequest, parts: AsyncIterator[Part], takes: Takes | None
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        info = await self.info()
        # Dropped before encoding, which is work, although the prompt would drop them too.
        kept = fitting(request.context, info.max_positions, request.voices)
        num_dropped = len(request.context) - len(kept)
        context = await self._context(replace(request, context=kept))
        spoken = Spoken(request, context, info.trained_for.longest_context_seconds)
        is_accepted = False
        async for part in parts:
            if (pause := spoken.pause_before(part)) is not None:
                yield pause
            if spoken.is_over:
                break
            asked = spoken.next_request(part)
            speak = partial(self._utterance, part=part, info=info)
            async with aclosing(takes.best(asked, part, speak) if takes else speak(asked)) as messages:
                async for message in messages:
                    if isinstance(message, AudioChunk):
                        if takes is not None and takes.drawn is not None:
                            spoken.drawn_with(takes.drawn)
                        yield spoken.take(message)
                    elif not is_accepted:
                        is_accepted = True
                        dropped = message.dropped_segments + num_dropped
                        accepted = replace(message, request_id=request.request_id, dropped_segments=dropped)
                        yield replace(accepted, context=asked.context, num_given=len(context))
            yield spoken.end_part(part)
            if spoken.is_over:
                break
        yield spoken.last_chunk()

    async def _utterance(
        self, request: GenerationRequest, part: Part, info: ModelInfo
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """The decoder's stream for one part, rescued if it runs away."""
        rescue = Rescue(self.decoder.stream, request, part.piece.num_words)
        # Random weights never end by themselves, so there is nothing to rescue.
        ends_itself = info.weights in (TRAINED, DEMO_VOICE)
        try:
            async with aclosing(rescue.messages() if ends_itself else self.decoder.stream(request)) as messages:
                async for message in messages:
                    yield message
        except InvalidRequest as error:
            # The engine calls it `text`. Only the pipeline knows its place in the scene.
            raise (error.at(f"turns[{part.turn}].text") if error.field == "text" else error) from None
        if ends_itself:
            self._watcher.count_piece(rescue.end, request.adapter.name if request.adapter else "")

    async def _context(self, request: SpeechRequest) -> list[ContextSegment]:
        """A voice for each speaker of the scene, kept or the checkpoint's, and the caller's clips."""
        encoded = await self._encoded(request.context, request.trace, request.owner)
        given = [
            ContextSegment(clip.text, clip.speaker, codes, anchor=opens_voice(clip, request.context, request.voices))
            for clip, codes in zip(request.context, encoded, strict=True)
        ]
        # An adapter is a voice: the checkpoint's own would pull it away.
        missing = {turn.speaker for turn in request.turns if turn.adapter is None} - {
            known.speaker for known in (*request.context, *request.voices)
        }
        voices = await self.default_voices()
        defaults = [voices[speaker] for speaker in sorted(missing) if speaker in voices]
        return [*request.voices, *defaults, *given]

    async def _encoded(self, clips: Sequence[ContextClip], trace: str, owner: str) -> list[Codes]:
        if not clips:
            return []
        with self._watcher.tracer.span("encode", trace, clips=len(clips)):
            at_once = asyncio.Semaphore(_ENCODED_AT_ONCE)
            return await asyncio.gather(*(self._encode(clip, owner, at_once) for clip in clips))

    async def _encode(self, clip: ContextClip, owner: str, at_once: asyncio.Semaphore) -> Codes:
        async with at_once:
            return await self.encoder.encode(clip.pcm, owner)

    async def default_voices(self) -> dict[int, ContextSegment]:
        """The checkpoint's own voices by speaker. Asked once."""
        if self._voices is None:
            self._voices = await self.encoder.default_voices()
        return self._voices


async def _known(parts: list[Part]) -> AsyncGenerator[Part, None]:
    for part in parts:
        yield part
