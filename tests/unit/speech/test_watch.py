"""What is counted of an answer, whichever way it goes."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from serve_app.errors import ContextTooLong, GenerationFailed, NotReady, Overloaded
from serve_app.messages import (
    Accepted,
    AdapterRef,
    AudioChunk,
    Codes,
    FinishReason,
    GenerationRequest,
    SamplingParams,
)
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import SpeechRequest
from serve_app.speech.scene import Turn
from serve_app.speech.watch import Watcher
from tests.support.fakes import NUM_CODEBOOKS, FakeDecoder, FakeEncoder, Utterance, frames_of, pcm_of
from tests.support.recording_meter import RecordingMeter


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class TimedDecoder(FakeDecoder):
    """Sends a frame at each of the given moments, in seconds after the request came."""

    def __init__(self, time: FakeTime, *moments: float) -> None:
        super().__init__()
        self._time = time
        self._moments = [time.now + moment for moment in moments]

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        yield Accepted(request.request_id, 0, "fake", 0.25, 10)
        for number, moment in enumerate(self._moments):
            self._time.now = moment
            yield AudioChunk(number, pcm_of(1), frames_of(1, 1))
        yield AudioChunk(len(self._moments), b"", Codes.empty(NUM_CODEBOOKS), FinishReason.EOS)


def asked(is_streamed: bool = True) -> SpeechRequest:
    return SpeechRequest(
        "r", (Turn("Hello.", 0),), (), SamplingParams(seed=3), 90.0, is_streamed=is_streamed, arrived_at=100.0
    )


async def metered(decoder: FakeDecoder, time: FakeTime | None = None, is_streamed: bool = True) -> RecordingMeter:
    meter = RecordingMeter()
    pipeline = SpeechPipeline(FakeEncoder(), decoder, Watcher(meter, clock=time or FakeTime()))
    async with aclosing(pipeline.stream(asked(is_streamed))) as messages:
        async for _ in messages:
            pass
    return meter


async def test_a_stream_in_time() -> None:
    time = FakeTime()
    meter = await metered(TimedDecoder(time, 0.3, 0.31, 0.4), time)
    assert meter.counted["csm_requests_started_total"] == 1
    assert meter.counted["csm_requests_ended_total{eos}"] == 1
    assert meter.counted["csm_audio_seconds_total"] == pytest.approx(0.24)
    assert meter.gauges["csm_requests_live"] == 0
    assert meter.observed["csm_queue_seconds"] == [0.25]
    assert meter.observed["csm_time_to_first_audio_seconds"] == pytest.approx([0.3])
    assert meter.observed["csm_real_time_factor"] == pytest.approx([0.4 / 0.24])
    assert meter.observed["csm_chunk_lateness_seconds"] == [0, 0]
    assert meter.observed["csm_stream_underrun_seconds"] == [0]
    assert meter.counted["csm_underrun_seconds_total"] == 0


async def test_a_stream_that_stutters() -> None:
    time = FakeTime()
    meter = await metered(TimedDecoder(time, 0.1, 0.21, 0.25, 0.39), time)
    assert meter.observed["csm_chunk_lateness_seconds"] == pytest.approx([0.03, 0, 0.05])
    assert meter.observed["csm_stream_underrun_seconds"] == pytest.approx([0.05])
    assert meter.counted["csm_underrun_seconds_total"] == pytest.approx(0.05)


async def test_a_file_that_is_sent_whole_has_no_deadlines() -> None:
    time = FakeTime()
    meter = await metered(TimedDecoder(time, 0.1, 0.9), time, is_streamed=False)
    assert not meter.observed["csm_chunk_lateness_seconds"] and not meter.observed["csm_stream_underrun_seconds"]
    assert meter.counted["csm_underrun_seconds_total"] == 0
    assert meter.observed["csm_time_to_first_audio_seconds"] == pytest.approx([0.1])


async def test_a_stream_of_one_chunk_is_not_judged() -> None:
    assert not (await metered(FakeDecoder(Utterance(num_frames=2)))).observed["csm_stream_underrun_seconds"]


@pytest.mark.parametrize("finish", [FinishReason.RUNAWAY, FinishReason.CANCELLED, FinishReason.ERROR])
async def test_an_answer_ends_as_the_engine_says(finish: FinishReason) -> None:
    meter = await metered(FakeDecoder(Utterance(finish=finish)))
    assert meter.counted[f"csm_requests_ended_total{{{finish}}}"] == 1
    assert bool(meter.observed["csm_real_time_factor"]) == (finish is FinishReason.RUNAWAY)


@pytest.mark.parametrize(
    ("refusal", "outcome"),
    [
        (Overloaded("busy"), "refused"),
        (NotReady("loading"), "not_ready"),
        (ContextTooLong("context", "is long"), "invalid"),
        (GenerationFailed("broken"), "error"),
        (RuntimeError("a bug"), "error"),
    ],
    ids=repr,
)
async def test_an_answer_that_was_not_begun(refusal: Exception, outcome: str) -> None:
    meter, pipeline = RecordingMeter(), None
    pipeline = SpeechPipeline(FakeEncoder(), FakeDecoder(Utterance(refusal=refusal)), Watcher(meter))
    with pytest.raises(type(refusal)):
        await anext(pipeline.stream(asked()))
    assert meter.counted[f"csm_requests_ended_total{{{outcome}}}"] == 1
    assert meter.gauges["csm_requests_live"] == 0


async def test_an_answer_that_breaks_off_is_an_error_whatever_broke_it() -> None:
    meter = RecordingMeter()
    decoder = FakeDecoder(Utterance(break_with=Overloaded("no slot for the rest")))
    with pytest.raises(Overloaded):
        async for _ in SpeechPipeline(FakeEncoder(), decoder, Watcher(meter)).stream(asked()):
            pass
    assert meter.counted["csm_requests_ended_total{error}"] == 1


async def test_leaving_early_is_a_cancellation_and_the_stream_is_judged() -> None:
    meter, decoder = RecordingMeter(), FakeDecoder(Utterance(num_frames=40))
    async with aclosing(SpeechPipeline(FakeEncoder(), decoder, Watcher(meter)).stream(asked())) as messages:
        for _ in range(3):
            await anext(messages)
        assert meter.gauges["csm_requests_live"] == 1
    assert meter.counted["csm_requests_ended_total{cancelled}"] == 1
    assert len(meter.observed["csm_stream_underrun_seconds"]) == 1
    assert meter.gauges["csm_requests_live"] == 0


async def test_leaving_while_it_waits_is_a_cancellation() -> None:
    meter, decoder = RecordingMeter(), FakeDecoder(Utterance(waits_for_slot=True))
    stream = SpeechPipeline(FakeEncoder(), decoder, Watcher(meter)).stream(asked())
    waiting = asyncio.ensure_future(anext(stream))
    await decoder.news.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert meter.counted["csm_requests_ended_total{cancelled}"] == 1


async def test_each_answer_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    time = FakeTime()
    logger = logging.getLogger("serve_app")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, "serve_app"):
            await metered(TimedDecoder(time, 0.3, 0.31), time)
    finally:
        logger.removeHandler(caplog.handler)
    assert "request r: eos, 0.16 s of audio, the first after 0.300 s" in caplog.messages


async def test_how_utterances_end_is_counted_by_adapter() -> None:
    meter = RecordingMeter()
    decoder = FakeDecoder(Utterance(4), Utterance(4, FinishReason.RUNAWAY), Utterance(4))
    request = SpeechRequest(
        "r", (Turn("Hello.", 0), Turn("Hej.", 0, adapter="danish")), (), SamplingParams(seed=3), 90.0,
        adapters={"danish": AdapterRef("danish", "/d")},
    )  # fmt: skip
    async for _ in SpeechPipeline(FakeEncoder(), decoder, Watcher(meter)).stream(request):
        pass
    ended = {name: count for name, count in meter.counted.items() if "utterances_ended" in name}
    assert ended == {"csm_utterances_ended_total{itself,}": 1, "csm_utterances_ended_total{rescued,danish}": 1}
