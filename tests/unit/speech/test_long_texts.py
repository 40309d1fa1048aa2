"""Texts longer than an utterance: one piece after the other, with pauses between them, over a fake decoder."""

from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest

from serve_app.audio.seams import pause_after
from serve_app.errors import InvalidRequest
from serve_app.messages import FRAME_RATE_HZ, FRAME_SAMPLES, AudioChunk, ContextSegment, FinishReason, TrainedFor
from serve_app.settings import LimitSettings, Settings
from serve_app.speech.build import Asked, build_scene
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import SpeechRequest
from serve_app.speech.scene import Scene, Turn
from tests.support.fakes import INFO, FakeDecoder, FakeEncoder, Utterance, frames_of

SENTENCE = "The keeper lit the lamp every evening. "
SHORT = replace(INFO, trained_for=TrainedFor(longest_piece_words=8, longest_context_seconds=2.0))


def scene_of(*texts: str, info: object = SHORT, **asked: object) -> Scene:
    turns = [Turn(text, number % 2) for number, text in enumerate(texts)]
    return build_scene(Asked(turns, **asked), info, Settings())  # type: ignore[arg-type]


async def spoken(decoder: FakeDecoder, scene: Scene, max_audio_seconds: float = 1800.0) -> list[AudioChunk]:
    request = SpeechRequest("r", scene.turns, (), scene.sampling, max_audio_seconds)
    async with aclosing(SpeechPipeline(FakeEncoder(), decoder).stream(request)) as messages:
        return [message async for message in messages if isinstance(message, AudioChunk)]


async def test_a_long_text_is_spoken_sentence_by_sentence() -> None:
    decoder = FakeDecoder(info=SHORT)
    chunks = await spoken(decoder, scene_of(SENTENCE * 3))
    assert [request.text for request in decoder.requests] == [SENTENCE.strip()] * 3
    assert [chunk.first_frame for chunk in chunks] == list(np.cumsum([0, *(c.num_frames for c in chunks[:-1])]))
    assert chunks[-1].finish is FinishReason.EOS
    assert chunks[-1].spoken_chars == len(SENTENCE * 3)


async def test_between_two_sentences_there_is_a_pause_and_between_two_turns_there_is_none() -> None:
    chunks = await spoken(FakeDecoder(info=SHORT), scene_of(SENTENCE * 2, "Good evening."))
    pauses = [chunk for chunk in chunks if chunk.pcm and not chunk.codes.num_frames]
    assert [(chunk.turn, chunk.num_frames) for chunk in pauses] == [(0, 5)]


async def test_the_latest_pieces_that_fit_condition_the_next() -> None:
    decoder = FakeDecoder(Utterance(num_frames=10), info=SHORT)
    await spoken(decoder, scene_of(SENTENCE * 5))
    assert [len(request.context) for request in decoder.requests] == [0, 1, 2, 2, 2]
    last = decoder.requests[-1].context
    assert [segment.codes for segment in last] == [frames_of(3, 10), frames_of(4, 10)]


async def test_a_voice_of_the_checkpoint_stays_while_older_pieces_go() -> None:
    voice = ContextSegment("Hello.", 0, frames_of(9, 20), anchor=True)
    decoder, scene = FakeDecoder(Utterance(num_frames=10), info=SHORT), scene_of(SENTENCE * 4)
    request = SpeechRequest("r", scene.turns, (), scene.sampling, 1800.0)
    async with aclosing(SpeechPipeline(FakeEncoder({0: voice}), decoder).stream(request)) as messages:
        _ = [message async for message in messages]
    assert [request.context[0] for request in decoder.requests] == [voice] * 4
    assert len(decoder.requests[-1].context) == 1  # 20 of the 25 frames are the voice's


async def test_a_text_that_does_not_fit_the_requests_audio_says_how_far_it_came() -> None:
    decoder = FakeDecoder(Utterance(num_frames=10), info=SHORT)
    chunks = await spoken(decoder, scene_of(SENTENCE * 4), max_audio_seconds=22 / FRAME_RATE_HZ)
    assert (chunks[-1].finish, sum(chunk.num_frames for chunk in chunks)) == (FinishReason.LENGTH, 22)
    assert chunks[-1].spoken_chars == len(SENTENCE)


async def test_each_piece_has_a_cap_by_its_own_words() -> None:
    decoder = FakeDecoder(info=SHORT)
    await spoken(decoder, scene_of("Call 1234567890 now. " + SENTENCE))
    first, second = [request.sampling.max_frames / FRAME_RATE_HZ for request in decoder.requests[:2]]
    assert first >= 6.6
    assert second >= 7


def test_text_is_prepared_for_speech_unless_the_caller_says_otherwise() -> None:
    plain = scene_of("It costs $5.", info=INFO)
    assert plain.turns[0].pieces[0].text == "It costs five dollars."
    as_typed = scene_of("It costs $5.", info=INFO, normalize=False)
    assert as_typed.turns[0].pieces[0].text == "It costs $5."
    assert Scene.from_json(plain.to_json()) == plain


def test_what_cannot_be_spoken_is_told_and_never_quoted() -> None:
    robot = replace(INFO, trained_for=TrainedFor(alphabet="abcdefghijklmnopqrstuvwxyz,.?!'"))
    scene = scene_of("Grüße an 世界!", info=robot)
    assert scene.notices == ("letters that the model does not know: 2 not spoken",)
    with pytest.raises(InvalidRequest, match="holds nothing that can be spoken") as refused:
        scene_of("Hello.", "世界", info=robot)
    assert refused.value.field == "turns[1].text"


def test_a_job_may_hold_more_text_than_a_request_whose_caller_waits() -> None:
    limits = Settings(limits=LimitSettings(max_text_chars=20, max_job_text_chars=100))
    long = Asked([Turn("word " * 10, 0)])
    with pytest.raises(InvalidRequest, match="at most 20"):
        build_scene(long, INFO, limits)
    assert build_scene(replace(long, is_job=True), INFO, limits).turns
    with pytest.raises(InvalidRequest, match="together, at most 20") as refused:
        build_scene(Asked([Turn("a word or two", 0)] * 2), INFO, limits)
    assert refused.value.field == "turns"


def test_a_pause_leads_the_sound_down_to_silence_without_a_step() -> None:
    tail = np.full(FRAME_SAMPLES, 9000, "<i2").tobytes()
    pause = np.frombuffer(pause_after(tail, 0.4), "<i2").astype(int)
    assert len(pause) == 5 * FRAME_SAMPLES
    assert abs(pause[0] - 9000) < 200 and pause[-1] == 0
    assert np.abs(np.diff(pause)).max() < 200


def test_silence_that_the_speech_ends_with_counts_as_pause() -> None:
    quiet = np.zeros(FRAME_SAMPLES * 3, "<i2").tobytes()
    assert len(pause_after(quiet, 0.4)) == 2 * 2 * FRAME_SAMPLES
    assert pause_after(quiet, 0.16) == b""
