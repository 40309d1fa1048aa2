"""Utterances that run away: what is held back, what is drawn again, and what the listener gets."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest

from serve_app.messages import (
    FRAME_SAMPLES,
    Accepted,
    AudioChunk,
    Codes,
    FinishReason,
    GenerationRequest,
    ModelInfo,
    SamplingParams,
)
from serve_app.speech.rescue import MAX_ATTEMPTS, PieceEnd, Rescue, plausible_frames
from serve_app.speech.text.duration import frame_cap
from tests.support.fakes import INFO, NUM_CODEBOOKS, frames_of

WORDS = 2
CAP = frame_cap(WORDS)
REQUEST = GenerationRequest("r", "Hello there.", 0, sampling=SamplingParams(seed=7, max_frames=CAP))
LOUD, SILENT = 4000, 0


class RunawayDecoder:
    """Speaks each attempt from a plan: loudness by frame, and the finish. Frames carry their attempt as codes."""

    def __init__(self, *plans: tuple[list[int], FinishReason], per_chunk: int = 3) -> None:
        self._plans = plans
        self._per_chunk = per_chunk
        self.requests: list[GenerationRequest] = []

    async def info(self) -> ModelInfo:
        return INFO

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        attempt = len(self.requests)
        self.requests.append(request)
        levels, finish = self._plans[min(attempt, len(self._plans) - 1)]
        resumed = request.resume.num_frames if request.resume else 0
        yield Accepted("r", request.sampling.seed, "fake", 0.0, 10)
        for first in range(0, len(levels), self._per_chunk):
            part = levels[first : first + self._per_chunk]
            pcm = b"".join(np.full(FRAME_SAMPLES, level, "<i2").tobytes() for level in part)
            yield AudioChunk(resumed + first, pcm, frames_of(attempt + 1, len(part)))
        yield AudioChunk(resumed + len(levels), b"", Codes.empty(NUM_CODEBOOKS), finish)


async def heard(
    decoder: RunawayDecoder, request: GenerationRequest = REQUEST
) -> tuple[Rescue, list[Accepted | AudioChunk]]:
    rescue = Rescue(decoder.stream, request, WORDS)
    async with aclosing(rescue.messages()) as messages:
        return rescue, [message async for message in messages]


def attempts_heard(messages: list[Accepted | AudioChunk]) -> list[int]:
    """For each frame in order, the attempt that drew it, from 1."""
    chunks = [message for message in messages if isinstance(message, AudioChunk)]
    return [int(frame[0]) for chunk in chunks for frame in chunk.codes.to_array()]


async def test_an_utterance_that_ends_by_itself_is_handed_on_as_it_is() -> None:
    decoder = RunawayDecoder(([LOUD] * 10, FinishReason.EOS))
    rescue, messages = await heard(decoder)
    plain = [message async for message in RunawayDecoder(([LOUD] * 10, FinishReason.EOS)).stream(REQUEST)]
    assert messages == plain
    assert (rescue.end, len(decoder.requests)) == (PieceEnd.ITSELF, 1)


async def test_a_long_utterance_that_ends_in_time_is_heard_whole() -> None:
    frames = CAP - 1
    assert frames > plausible_frames(WORDS)
    rescue, messages = await heard(RunawayDecoder(([LOUD] * frames, FinishReason.EOS)))
    assert (rescue.end, attempts_heard(messages)) == (PieceEnd.ITSELF, [1] * frames)


async def test_babble_beyond_a_plausible_length_is_not_heard_and_is_drawn_again() -> None:
    limit = plausible_frames(WORDS)
    decoder = RunawayDecoder(([LOUD] * CAP, FinishReason.LENGTH), ([LOUD] * 2, FinishReason.EOS))
    rescue, messages = await heard(decoder)
    assert rescue.end is PieceEnd.RESCUED
    assert attempts_heard(messages) == [1] * limit + [2] * 2
    first, second = decoder.requests
    assert second.resume == frames_of(1, limit)
    assert first.sampling.seed == 7 != second.sampling.seed
    last = messages[-1]
    assert isinstance(last, AudioChunk) and last.finish is FinishReason.EOS


async def test_a_silence_that_never_ends_is_not_heard_and_is_drawn_again() -> None:
    decoder = RunawayDecoder(
        ([LOUD] * 6 + [SILENT] * 14, FinishReason.RUNAWAY), ([LOUD] * 4, FinishReason.EOS), per_chunk=1
    )
    _, messages = await heard(decoder)
    assert attempts_heard(messages) == [1] * 11 + [2] * 4  # 0.4 s of the silence are a pause
    assert decoder.requests[1].resume == frames_of(1, 11)


async def test_chunks_are_split_where_the_silence_begins() -> None:
    decoder = RunawayDecoder(([LOUD] * 6 + [SILENT] * 12, FinishReason.RUNAWAY), ([], FinishReason.EOS), per_chunk=18)
    rescue, messages = await heard(decoder)
    assert (rescue.end, attempts_heard(messages)) == (PieceEnd.RESCUED, [1] * 11)
    assert all(
        len(chunk.pcm) == 2 * FRAME_SAMPLES * chunk.codes.num_frames
        for chunk in messages
        if isinstance(chunk, AudioChunk)
    )


async def test_a_pause_within_speech_is_heard_with_what_follows() -> None:
    levels = [LOUD] * 4 + [SILENT] * 9 + [LOUD] * 4
    rescue, messages = await heard(RunawayDecoder((levels, FinishReason.EOS), per_chunk=1))
    assert (rescue.end, attempts_heard(messages)) == (PieceEnd.ITSELF, [1] * len(levels))


async def test_an_utterance_that_runs_away_each_time_is_cut_at_its_last_good_frame() -> None:
    decoder = RunawayDecoder(([LOUD] * 5 + [SILENT] * 40, FinishReason.RUNAWAY))
    rescue, messages = await heard(decoder)
    assert rescue.end is PieceEnd.CUT
    assert len(decoder.requests) == MAX_ATTEMPTS + 1
    assert len({request.sampling.seed for request in decoder.requests}) == MAX_ATTEMPTS + 1
    last = messages[-1]
    assert isinstance(last, AudioChunk)
    assert (last.finish, last.codes.num_frames, last.pcm) == (FinishReason.RUNAWAY, 0, b"")


async def test_the_requests_own_limit_of_audio_is_no_runaway() -> None:
    request = replace(REQUEST, sampling=replace(REQUEST.sampling, max_frames=4))
    decoder = RunawayDecoder(([LOUD] * 4, FinishReason.LENGTH))
    rescue, messages = await heard(decoder, request)
    assert (rescue.end, attempts_heard(messages)) == (PieceEnd.LIMIT, [1] * 4)
    assert len(decoder.requests) == 1


async def test_a_greedy_draw_is_not_tried_again() -> None:
    request = replace(REQUEST, sampling=replace(REQUEST.sampling, greedy=True))
    decoder = RunawayDecoder(([LOUD] * CAP, FinishReason.LENGTH))
    rescue, _ = await heard(decoder, request)
    assert (rescue.end, len(decoder.requests)) == (PieceEnd.CUT, 1)


@pytest.mark.parametrize("per_chunk", [1, 2, 5, 60])
async def test_the_result_does_not_depend_on_how_frames_are_grouped(per_chunk: int) -> None:
    plans = (([LOUD] * CAP, FinishReason.LENGTH), ([LOUD] * 3 + [SILENT] * 30, FinishReason.RUNAWAY))
    decoder = RunawayDecoder(*plans, ([LOUD] * 2, FinishReason.EOS), per_chunk=per_chunk)
    _, messages = await heard(decoder)
    one_by_one = RunawayDecoder(*plans, ([LOUD] * 2, FinishReason.EOS), per_chunk=1)
    assert attempts_heard(messages) == attempts_heard((await heard(one_by_one))[1])


@pytest.mark.parametrize(("priority", "later"), [(0, -1), (-1, -1), (1, 1)])
async def test_a_second_draw_goes_before_requests_that_have_not_begun(priority: int, later: int) -> None:
    decoder = RunawayDecoder(([LOUD] * CAP, FinishReason.LENGTH), ([LOUD], FinishReason.EOS))
    await heard(decoder, replace(REQUEST, priority=priority))
    assert [request.priority for request in decoder.requests] == [priority, later]
