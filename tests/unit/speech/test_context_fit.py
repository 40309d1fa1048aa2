"""A context longer than the prompt is cut before it is encoded."""

from collections.abc import AsyncGenerator

import pytest

from serve_app.errors import ContextTooLong
from serve_app.messages import Accepted, AudioChunk, SamplingParams
from serve_app.speech.context_fit import fitting
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import ContextClip, SpeechRequest
from serve_app.speech.scene import Turn
from tests.support.fakes import INFO, FakeDecoder, FakeEncoder, pcm_of


def clip(number: int, num_frames: int, speaker: int = 0) -> ContextClip:
    return ContextClip(f"clip {number}", speaker, pcm_of(number, num_frames))


async def accepted_of(stream: AsyncGenerator[Accepted | AudioChunk, None]) -> Accepted:
    messages = [message async for message in stream]
    assert isinstance(messages[0], Accepted)
    return messages[0]


def texts(clips: tuple[ContextClip, ...]) -> list[str]:
    return [kept.text for kept in clips]


def test_a_context_that_fits_is_kept_whole() -> None:
    clips = (clip(0, 10), clip(1, 10), clip(2, 10))
    assert fitting(clips, 36) == clips


def test_the_oldest_go_first_and_a_speakers_first_never() -> None:
    clips = (clip(0, 10), clip(1, 10), clip(2, 10, speaker=1), clip(3, 10), clip(4, 10))
    assert texts(fitting(clips, 59)) == ["clip 0", "clip 2", "clip 3", "clip 4"]
    assert texts(fitting(clips, 36)) == ["clip 0", "clip 2", "clip 4"]


async def test_only_what_is_kept_is_encoded_and_the_rest_counts_as_dropped() -> None:
    encoder = FakeEncoder()
    clips = tuple(clip(number, 1000) for number in range(8))
    request = SpeechRequest("r", (Turn("Hello.", 0),), clips, SamplingParams(), 90.0)
    accepted = await accepted_of(SpeechPipeline(encoder, FakeDecoder()).stream(request))
    assert len(encoder.clips) == 2 < INFO.max_positions // 1000 + 1
    assert accepted.dropped_segments == 6


async def test_voices_that_are_too_long_together_are_refused_unencoded() -> None:
    encoder = FakeEncoder()
    clips = tuple(clip(number, 1000, speaker=number) for number in range(3))
    request = SpeechRequest("r", (Turn("Hello.", 0),), clips, SamplingParams(), 90.0)
    with pytest.raises(ContextTooLong, match="context: the first clips of all speakers are longer together than the"):
        await accepted_of(SpeechPipeline(encoder, FakeDecoder()).stream(request))
    assert not encoder.clips
