"""However an answer ends, its stream is closed and its outcome is known."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from serve_app.errors import GenerationFailed, Overloaded, UnknownRequest
from serve_app.messages import Accepted, AudioChunk, FinishReason, SamplingParams
from serve_app.speech.live_answer import LiveAnswer
from serve_app.speech.outcomes import RecentOutcomes
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import SpeechRequest, Turn
from tests.support.fakes import FakeDecoder, FakeEncoder, Utterance

OWNER = "csm_1"


def speech(decoder: FakeDecoder) -> AsyncGenerator[Accepted | AudioChunk, None]:
    request = SpeechRequest("r", (Turn("Hello.", 0),), (), SamplingParams(seed=3), 90.0)
    return SpeechPipeline(FakeEncoder(), decoder).stream(request)


async def test_an_answer_heard_to_its_end_has_its_own_finish() -> None:
    outcomes = RecentOutcomes()
    async with await LiveAnswer.open(speech(FakeDecoder()), outcomes, OWNER) as answer:
        assert outcomes.get(OWNER, "r").finish_reason is None
        _ = [chunk async for chunk in answer.chunks()]
    assert (outcomes.get(OWNER, "r").finish_reason, outcomes.get(OWNER, "r").num_frames) == (FinishReason.EOS, 4)
    assert answer.outcome == outcomes.get(OWNER, "r")


async def test_leaving_early_frees_the_slot_and_is_a_cancellation() -> None:
    outcomes, decoder = RecentOutcomes(), FakeDecoder(Utterance(stalls=True))
    async with await LiveAnswer.open(speech(decoder), outcomes, OWNER) as answer, aclosing(answer.chunks()) as chunks:
        await anext(chunks)
    assert decoder.num_open == 0
    assert (outcomes.get(OWNER, "r").finish_reason, outcomes.get(OWNER, "r").num_frames) == (FinishReason.CANCELLED, 2)


async def test_leaving_before_the_first_chunk_frees_the_slot() -> None:
    outcomes, decoder = RecentOutcomes(), FakeDecoder()
    async with await LiveAnswer.open(speech(decoder), outcomes, OWNER):
        assert decoder.num_open == 1
    assert decoder.num_open == 0
    assert outcomes.get(OWNER, "r").finish_reason is FinishReason.CANCELLED


@pytest.mark.parametrize("error", [GenerationFailed("broken"), RuntimeError("a bug")], ids=repr)
async def test_an_answer_that_breaks_off_is_an_error(error: Exception) -> None:
    outcomes, decoder = RecentOutcomes(), FakeDecoder(Utterance(break_with=error))
    with pytest.raises(type(error)):
        async with await LiveAnswer.open(speech(decoder), outcomes, OWNER) as answer:
            _ = [chunk async for chunk in answer.chunks()]
    assert (outcomes.get(OWNER, "r").finish_reason, outcomes.get(OWNER, "r").num_frames) == (FinishReason.ERROR, 4)


async def test_a_refused_request_has_no_outcome() -> None:
    outcomes = RecentOutcomes()
    with pytest.raises(Overloaded):
        await LiveAnswer.open(speech(FakeDecoder(Utterance(refusal=Overloaded("full")))), outcomes, OWNER)
    with pytest.raises(UnknownRequest):
        outcomes.get(OWNER, "r")
