"""The state of an answer: its audio so far, and the context of its next part."""

import time
from collections import deque
from dataclasses import replace

from serve_app.audio.seams import pause_after
from serve_app.messages import (
    FRAME_RATE_HZ,
    FRAME_SAMPLES,
    AudioChunk,
    Codes,
    ContextSegment,
    Draw,
    FinishReason,
    GenerationRequest,
    SpokenPart,
    Utterance,
)
from serve_app.speech.parts import Part
from serve_app.speech.request import SpeechRequest
from serve_app.speech.seeds import sub_seed
from serve_app.speech.text.duration import frame_cap

_CONTINUING = -1
"""Priority of all parts but the first, which have a listener already."""


class Spoken:
    """Joins the parts of an answer: makes each request, and places its chunks in the answer."""

    def __init__(self, request: SpeechRequest, context: list[ContextSegment], max_context_seconds: float) -> None:
        self._request = request
        self._context = Memory(context, max_context_seconds)
        for segment in request.history:
            self._context.add(segment)
        self._max_frames = _num_frames(request.max_audio_seconds)
        self._num_frames = request.frames_before
        self._spoken_chars = 0
        self._played_out_at = 0.0
        self._chunks: list[AudioChunk] = []
        self._tail = b""
        self._no_codes: Codes | None = None
        self._finish = FinishReason.EOS
        self._part: Part | None = None
        self._part_began = 0
        self._utterance: Utterance | None = None
        self._is_whole = True
        self._ended_itself = False

    @property
    def frames_left(self) -> int:
        return self._max_frames - self._num_frames

    @property
    def _turn(self) -> int:
        return self._part.turn if self._part else 0

    @property
    def is_over(self) -> bool:
        """Whether the answer ends here: its limit is reached, or the engine gave up."""
        return self.frames_left <= 0 or self._finish in (FinishReason.CANCELLED, FinishReason.ERROR)

    def next_request(self, part: Part) -> GenerationRequest:
        self._part, self._part_began = part, self._num_frames - _spoken_before(part)
        request, is_first = self._request, part.number == 0 and part.resume is None
        usual = Draw(sub_seed(request.sampling.seed, part.number), request.sampling.temperature)
        draw = request.part_draws.get(part.number, usual)
        self._utterance = _utterance(part, draw)
        return GenerationRequest(
            request_id=request.request_id if part.is_only else f"{request.request_id}-{part.number}",
            text=part.piece.text,
            speaker=part.speaker,
            context=self._context.segments(),
            sampling=replace(
                request.sampling,
                seed=draw.seed,
                temperature=draw.temperature,
                max_frames=min(frame_cap(part.piece.num_words), self.frames_left + _spoken_before(part)),
            ),
            resume=part.resume,
            priority=request.priority if is_first or request.priority > 0 else _CONTINUING,
            becomes_context=not part.is_last,
            paced=request.is_streamed,
            speed=request.speed,
            is_lossy=request.is_lossy,
            lead_seconds=max(0.0, self._played_out_at - time.monotonic()),
            trace=request.trace,
            adapter=request.adapter_of(part.turn),
            owner=request.owner,
        )

    def drawn_with(self, draw: Draw) -> None:
        """Note that the part is spoken with another draw than `next_request` gave it."""
        assert self._utterance is not None, "a part was asked for"
        self._utterance = replace(self._utterance, seed=draw.seed, temperature=draw.temperature)

    def take(self, chunk: AudioChunk) -> AudioChunk:
        """A part's chunk, renumbered as one of the whole answer."""
        self._chunks.append(chunk)
        self._ended_itself = chunk.finish is FinishReason.EOS
        if chunk.finish is not None and self._finish is FinishReason.EOS:
            self._finish = chunk.finish
        if chunk.pcm:
            self._tail = chunk.pcm
        return self._placed(replace(chunk, finish=None))

    def pause_before(self, part: Part) -> AudioChunk | None:
        """Silence between the part before and this one of the same turn. None if the speech ends with enough of it."""
        before = self._part
        if before is None or self._no_codes is None or before.turn != part.turn:
            return None
        pcm = pause_after(self._tail, before.pause_seconds)[: self.frames_left * 2 * FRAME_SAMPLES]
        return self._placed(AudioChunk(0, pcm, self._no_codes)) if pcm else None

    def end_part(self, part: Part) -> AudioChunk:
        """Keep the part as context of the next. Returns a chunk without audio that says where the part stands."""
        assert self._chunks, "a stream ends with a chunk that carries finish"
        self._no_codes = Codes.empty(self._chunks[0].codes.num_codebooks)
        before = part.resume or self._no_codes
        codes = replace(before, data=b"".join((before.data, *(chunk.codes.data for chunk in self._chunks))))
        self._chunks.clear()
        self._is_whole = part.is_last
        self._spoken_chars = part.chars_before + (part.piece.end if self._ended_itself else part.piece.start)
        if codes.num_frames:  # a transcript without sound would teach the next part to skip words
            self._context.add(ContextSegment(part.piece.text, part.speaker, codes))
        start, end = part.chars_before + part.piece.start, part.chars_before + part.piece.end
        stands = SpokenPart(part.turn, self._part_began, self._num_frames, start, end, part.piece.text)
        return self._placed(AudioChunk(0, b"", self._no_codes, part=stands))

    def last_chunk(self) -> AudioChunk:
        assert self._no_codes is not None, "a request has a part"
        if not self._is_whole and self.frames_left <= 0:
            self._finish = FinishReason.LENGTH
        last = AudioChunk(self._num_frames, b"", self._no_codes, self._finish, self._turn)
        return replace(last, spoken_chars=self._spoken_chars)

    def _placed(self, chunk: AudioChunk) -> AudioChunk:
        first_frame = self._num_frames
        self._num_frames += chunk.num_frames
        seconds = chunk.num_frames / FRAME_RATE_HZ / self._request.speed
        self._played_out_at = max(self._played_out_at, time.monotonic()) + seconds
        return replace(
            chunk, first_frame=first_frame, turn=self._turn, utterance=self._utterance, spoken_chars=self._spoken_chars
        )


def _spoken_before(part: Part) -> int:
    return part.resume.num_frames if part.resume is not None else 0


def _utterance(part: Part, draw: Draw) -> Utterance:
    piece = part.piece
    return Utterance(
        number=part.number,
        turn=part.turn,
        speaker=part.speaker,
        text=piece.text,
        num_words=piece.num_words,
        start=piece.start,
        end=piece.end,
        ends_with=piece.ends_with,
        seed=draw.seed,
        temperature=draw.temperature,
    )


class Memory:
    """The context of the next part, within the length that the model was trained to follow.

    The caller's clips are kept, and the latest spoken parts that fit beside them.
    """

    def __init__(self, given: list[ContextSegment], max_seconds: float) -> None:
        self._given = tuple(given)
        self._room = max_seconds * FRAME_RATE_HZ - sum(segment.codes.num_frames for segment in given)
        self._spoken: deque[ContextSegment] = deque()

    def add(self, segment: ContextSegment) -> None:
        self._spoken.append(segment)
        while self._spoken and sum(spoken.codes.num_frames for spoken in self._spoken) > self._room:
            self._spoken.popleft()

    def segments(self) -> tuple[ContextSegment, ...]:
        return (*self._given, *self._spoken)


def _num_frames(seconds: float) -> int:
    """Whole frames in `seconds`, at least one. Rounded first, since 29 / 12.5 * 12.5 is slightly below 29."""
    return max(1, int(round(seconds * FRAME_RATE_HZ, 6)))
