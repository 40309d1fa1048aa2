"""Losses that a stream survived, and those that it did not."""

from collections.abc import AsyncGenerator

import pytest

from serve_app.errors import GenerationFailed, ReplicaLost
from serve_app.messages import Accepted, AudioChunk, FinishReason, GenerationRequest, ModelInfo
from serve_app.settings import FailoverSettings
from serve_app.speech.failover import ResumingDecoder
from tests.support.fakes import INFO, frames_of, pcm_of
from tests.support.recording_meter import RecordingMeter


class DyingDecoder:
    """Loses the replica after one frame, as often as it is told, then ends."""

    def __init__(self, num_deaths: int) -> None:
        self._deaths_left = num_deaths

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        first = request.resume.num_frames if request.resume else 0
        yield Accepted(request.request_id, 0, "fake", 0.0, 10)
        if self._deaths_left:
            self._deaths_left -= 1
            yield AudioChunk(first, pcm_of(1), frames_of(1, 1))
            raise ReplicaLost("died")
        yield AudioChunk(first, pcm_of(1), frames_of(1, 1), FinishReason.EOS)

    async def info(self) -> ModelInfo:
        return INFO


async def spoken(num_deaths: int, max_losses: int) -> RecordingMeter:
    meter = RecordingMeter()
    resuming = ResumingDecoder(DyingDecoder(num_deaths), FailoverSettings(max_losses=max_losses), meter)
    try:
        async for _ in resuming.stream(GenerationRequest("r", "text", 0)):
            pass
    except GenerationFailed:
        meter.counted["failed"] += 1
    return meter


async def test_a_loss_survived_is_timed_to_the_next_frame() -> None:
    meter = await spoken(num_deaths=1, max_losses=8)
    assert meter.observed["csm_failover_seconds{decoder}"] == [pytest.approx(0.1, abs=0.5)]
    assert not any(meter.counted.values())


async def test_a_stream_given_up_is_counted_once() -> None:
    meter = await spoken(num_deaths=1, max_losses=0)
    assert meter.counted == {"csm_failovers_failed_total{decoder}": 1, "failed": 1}
    assert not meter.observed["csm_failover_seconds{decoder}"]
