"""Several takes of an utterance: the best is kept, and the next one follows it."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from serve_app.errors import DeliveryFailed
from serve_app.messages import (
    Accepted,
    AudioChunk,
    ContextSegment,
    Draw,
    FinishReason,
    GenerationRequest,
    SamplingParams,
)
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import SpeechRequest
from serve_app.speech.scene import Quality, Turn
from serve_app.speech.score import Ear, Likeness, scored, words_heard
from serve_app.speech.takes import Takes
from tests.support.fakes import FakeDecoder, FakeEncoder, Utterance, frames_of
from tests.support.sounds import buzz

TEXT = "Six words are spoken right here."
SHORT, USUAL, ENDLESS = Utterance(4), Utterance(34), Utterance(34, FinishReason.RUNAWAY)


class ScriptedEar:
    """Hears these texts one after the other. None: it fails."""

    def __init__(self, *heard: str | None) -> None:
        self._heard = list(heard)

    async def hears(self, pcm: bytes) -> str:
        heard = self._heard.pop(0)
        if heard is None:
            raise DeliveryFailed("no answer")
        return heard


async def spoken(
    decoder: FakeDecoder, takes: Takes | None, turns: Sequence[Turn] = (Turn(TEXT, 0),), **more: Any
) -> list[Accepted | AudioChunk]:
    request = SpeechRequest("r", tuple(turns), (), SamplingParams(seed=11), 90.0, priority=1, **more)
    async with aclosing(SpeechPipeline(FakeEncoder(), decoder).stream(request, None, takes)) as messages:
        return [message async for message in messages]


def takes_of(decoder: FakeDecoder, candidates: int, ear: Ear | None = None) -> Takes:
    return Takes(Quality(candidates), decoder, ear)


def drawn_for(request: GenerationRequest) -> Draw:
    return Draw(request.sampling.seed, request.sampling.temperature)


def kept(takes: Takes) -> list[int]:
    return [utterance["kept"] for utterance in takes.report["utterances"]]


async def test_the_best_of_all_takes_is_kept_and_the_others_are_dropped() -> None:
    decoder = FakeDecoder(SHORT, Utterance(12), SHORT)
    takes = takes_of(decoder, 3)
    accepted, *chunks = await spoken(decoder, takes)
    assert isinstance(accepted, Accepted) and not any(isinstance(chunk, Accepted) for chunk in chunks)
    assert sum(chunk.num_frames for chunk in chunks if isinstance(chunk, AudioChunk)) == 12
    assert len({request.sampling.seed for request in decoder.requests}) == 3
    assert {request.priority for request in decoder.requests} == {1}
    assert (kept(takes), takes.report["drawn"]) == ([1], 3)
    assert takes.report["dropped_seconds"] == pytest.approx(8 * 0.08)


async def test_no_further_take_is_drawn_after_a_good_one() -> None:
    decoder = FakeDecoder(SHORT, USUAL)
    takes = takes_of(decoder, 8)
    await spoken(decoder, takes)
    assert (kept(takes), takes.report["drawn"], len(decoder.requests)) == ([1], 2, 2)


async def test_a_take_that_had_to_be_rescued_gives_way_to_one_that_ends_by_itself() -> None:
    decoder = FakeDecoder(ENDLESS, USUAL, USUAL)
    takes = takes_of(decoder, 2)
    await spoken(decoder, takes)
    (utterance,) = takes.report["utterances"]
    assert utterance["kept"] == 1
    assert [take["ends_by_itself"] for take in utterance["takes"]] == [False, True]


async def test_the_ear_decides_between_takes_that_sound_alike() -> None:
    decoder = FakeDecoder(USUAL)
    takes = takes_of(decoder, 3, ScriptedEar("six birds are", "six words are spoken light here", "where am I"))
    await spoken(decoder, takes)
    (utterance,) = takes.report["utterances"]
    assert (utterance["kept"], [take["words_heard"] for take in utterance["takes"]]) == (1, [0.33, 0.83, 0.0])


async def test_a_job_is_spoken_though_the_ear_fails() -> None:
    decoder = FakeDecoder(USUAL)
    takes = takes_of(decoder, 3, ScriptedEar(None))
    await spoken(decoder, takes)
    assert (kept(takes), takes.report["words_checked"]) == ([0], False)


async def test_the_next_utterance_follows_the_take_that_was_kept() -> None:
    decoder = FakeDecoder(SHORT, USUAL, USUAL)
    takes = takes_of(decoder, 2)
    messages = await spoken(decoder, takes, [Turn(TEXT, 0), Turn(TEXT, 1)])
    (before,) = decoder.requests[2].context
    assert set(np.unique(before.codes.to_array())) == {2}, "the second draw's codes"
    utterances = [c.utterance for c in messages if isinstance(c, AudioChunk) and c.utterance]
    draws = {utterance.number: Draw(utterance.seed, utterance.temperature) for utterance in utterances}
    kept_draws = [drawn_for(request) for request in decoder.requests[1:3]]
    assert list(draws.values()) == kept_draws
    again = FakeDecoder(USUAL)
    await spoken(again, None, [Turn(TEXT, 0), Turn(TEXT, 1)], part_draws=draws)
    assert [drawn_for(request) for request in again.requests] == kept_draws


async def test_each_take_is_warmer_than_the_one_before_where_that_is_asked() -> None:
    decoder = FakeDecoder(SHORT)
    takes = Takes(Quality(4, spread=2.0), decoder, None)
    messages = await spoken(decoder, takes)
    assert [request.sampling.temperature for request in decoder.requests] == [0.9, 1.8, 3.6, 5.0]
    (spoken_with,) = {c.utterance.temperature for c in messages if isinstance(c, AudioChunk) and c.utterance}
    assert spoken_with == decoder.requests[kept(takes)[0]].sampling.temperature


async def test_pitch_and_loudness_are_those_of_the_speakers_passage() -> None:
    decoder = FakeDecoder(USUAL)
    takes = takes_of(decoder, 1)
    await spoken(decoder, takes, voices=(ContextSegment("As it was.", 0, frames_of(7, 20), anchor=True),))
    (take,) = takes.report["utterances"][0]["takes"]
    assert (take["loudness_db"], take["pitch_semitones"]) == (0.0, 0.0)
    takes = takes_of(decoder, 1)
    await spoken(decoder, takes, voices=(ContextSegment("As it was.", 5, frames_of(7, 20), anchor=True),))
    assert takes.report["utterances"][0]["takes"][0]["loudness_db"] is None, "another speaker's"


async def test_closing_the_stream_frees_the_slot_of_a_take() -> None:
    decoder = FakeDecoder(Utterance(34, stalls=True))
    request = SpeechRequest("r", (Turn(TEXT, 0),), (), SamplingParams(seed=11), 90.0)
    async with aclosing(SpeechPipeline(FakeEncoder(), decoder).stream(request, None, takes_of(decoder, 2))) as messages:
        assert isinstance(await anext(messages), Accepted)
    assert decoder.num_open == 0


def sound(seconds: float, pitch_hz: float = 120.0, level: float = 0.2) -> Any:
    return (buzz(seconds, pitch_hz, level=level) * 32767).astype("<i2")


def test_each_fault_lowers_the_score() -> None:
    voice = Likeness.of(sound(2.0))
    good = scored(sound(2.5), 6, True, voice, 1.0)
    silent = np.concatenate([sound(1.5), np.zeros(24_000 * 2, "<i2"), sound(1.0)])
    faulty = [
        scored(sound(2.5), 6, False, voice, 1.0),
        scored(sound(0.5), 6, True, voice, 1.0),
        scored(sound(9.0), 6, True, voice, 1.0),
        scored(silent, 8, True, voice, 1.0),
        scored(np.clip(sound(2.5).astype(int) * 20, -32768, 32767).astype("<i2"), 6, True, None, 1.0),
        scored(sound(2.5, level=0.02), 6, True, voice, 1.0),
        scored(sound(2.5, pitch_hz=180.0), 6, True, voice, 1.0),
        scored(sound(2.5), 6, True, voice, 0.5),
    ]
    assert good.value == 1.0
    assert [score.value < 0.8 for score in faulty] == [True] * len(faulty)
    assert scored(np.zeros(0, "<i2"), 6, True, voice, None).value == 0.0


def test_words_are_compared_whatever_their_script() -> None:
    assert words_heard("Hej, hvor er Åse?", "hej hvor er åse") == 1.0
    assert words_heard("Don't go.", "don't stop") == 0.5
    assert words_heard("…", "") == 1.0
