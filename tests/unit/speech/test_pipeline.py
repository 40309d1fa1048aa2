"""The whole path over fakes of the graph."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from serve_app.errors import GenerationFailed, NotReady, Overloaded
from serve_app.messages import Accepted, AudioChunk, ContextSegment, FinishReason, SamplingParams
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import ContextClip, SpeechRequest
from serve_app.speech.scene import Turn
from serve_app.speech.text.duration import frame_cap
from tests.support.fakes import FakeDecoder, FakeEncoder, Utterance, frames_of, pcm_of

HELLO = (Turn("Hello.", 0),)


def asked(
    turns: tuple[Turn, ...] = HELLO,
    context: tuple[ContextClip, ...] = (),
    seed: int = 11,
    max_audio_seconds: float = 90.0,
) -> SpeechRequest:
    return SpeechRequest("r", turns, context, SamplingParams(seed=seed), max_audio_seconds)


def scene(num_turns: int) -> tuple[Turn, ...]:
    return tuple(Turn(f"Turn {number}.", number % 2) for number in range(num_turns))


def voice(speaker: int) -> ContextSegment:
    return ContextSegment(f"voice {speaker}", speaker, frames_of(100 + speaker, 3), anchor=True)


async def heard(
    stream: AsyncGenerator[Accepted | AudioChunk, None],
) -> tuple[Accepted, list[AudioChunk]]:
    accepted, *chunks = [message async for message in stream]
    assert isinstance(accepted, Accepted)
    assert all(isinstance(chunk, AudioChunk) for chunk in chunks), "Accepted comes once"
    return accepted, chunks  # type: ignore[return-value]


def values(segment: ContextSegment) -> set[int]:
    return set(np.unique(segment.codes.to_array()).tolist())


async def test_an_answer_is_accepted_then_audio_then_one_last_chunk_that_carries_finish() -> None:
    accepted, chunks = await heard(SpeechPipeline(FakeEncoder(), FakeDecoder()).stream(asked()))
    assert (accepted.request_id, accepted.seed) == ("r", 11)
    assert [chunk.finish for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1].finish, chunks[-1].first_frame, chunks[-1].pcm) == (FinishReason.EOS, 4, b"")
    assert b"".join(chunk.pcm for chunk in chunks) == b"".join(pcm_of(n) for n in range(4))


async def test_clips_condition_in_the_order_they_were_sent_and_each_speakers_first_is_the_anchor() -> None:
    decoder = FakeDecoder()
    clips = tuple(ContextClip(f"clip {n}", n % 2, pcm_of(50 + n)) for n in range(4))
    await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked(context=clips)))
    context = decoder.requests[0].context
    assert [(s.text, s.speaker, values(s), s.anchor) for s in context] == [
        ("clip 0", 0, {50}, True),
        ("clip 1", 1, {51}, True),
        ("clip 2", 0, {52}, False),
        ("clip 3", 1, {53}, False),
    ]


async def test_the_same_clip_sent_twice_is_the_anchor_once() -> None:
    decoder = FakeDecoder()
    twins = (ContextClip("clip", 0, pcm_of(5)), ContextClip("clip", 0, pcm_of(5)))
    await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked(context=twins)))
    assert [segment.anchor for segment in decoder.requests[0].context] == [True, False]


@pytest.mark.parametrize(
    ("turns", "speakers_with_clips", "expected"),
    [
        (HELLO, (), ["voice 0"]),
        ((Turn("Hi.", 1),), (), ["voice 1"]),
        (scene(3), (), ["voice 0", "voice 1"]),
        (scene(3), (0,), ["voice 1", "clip"]),
        (scene(3), (0, 1), ["clip", "clip"]),
        (HELLO, (1,), ["voice 0", "clip"]),
        ((Turn("Hi.", 7),), (), []),
    ],
    ids=["single", "other single", "scene", "one has a clip", "both have", "clip of somebody else", "no such voice"],
)
async def test_default_voices_stand_in_for_speakers_without_a_clip(
    turns: tuple[Turn, ...], speakers_with_clips: tuple[int, ...], expected: list[str]
) -> None:
    decoder = FakeDecoder()
    clips = tuple(ContextClip("clip", speaker, pcm_of(9)) for speaker in speakers_with_clips)
    encoder = FakeEncoder({0: voice(0), 1: voice(1)})
    await heard(SpeechPipeline(encoder, decoder).stream(asked(turns, clips)))
    assert [segment.text for segment in decoder.requests[0].context] == expected


async def test_each_turn_is_conditioned_on_all_that_was_spoken_before() -> None:
    decoder = FakeDecoder()
    await heard(SpeechPipeline(FakeEncoder({0: voice(0)}), decoder).stream(asked(scene(3))))
    assert [[values(s) for s in request.context] for request in decoder.requests] == [
        [{100}],
        [{100}, {1}],
        [{100}, {1}, {2}],
    ]
    spoken = decoder.requests[2].context[1:]
    assert [(s.text, s.speaker, s.codes.num_frames, s.anchor) for s in spoken] == [
        ("Turn 0.", 0, 4, False),
        ("Turn 1.", 1, 4, False),
    ]
    assert [(request.text, request.speaker) for request in decoder.requests] == [(t.text, t.speaker) for t in scene(3)]


async def test_turns_that_somebody_listens_to_are_paced_and_know_what_is_still_to_be_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serve_app.speech.spoken.time", SimpleNamespace(monotonic=lambda: 5.0))
    decoder = FakeDecoder()
    await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked(scene(3))))
    assert [request.paced for request in decoder.requests] == [True] * 3
    assert [request.lead_seconds for request in decoder.requests] == pytest.approx([0, 4 * 0.08, 8 * 0.08])


async def test_a_listener_at_twice_the_speed_has_half_as_long_to_play(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.speech.spoken.time", SimpleNamespace(monotonic=lambda: 5.0))
    decoder = FakeDecoder()
    await heard(SpeechPipeline(FakeEncoder(), decoder).stream(replace(asked(scene(2)), speed=2.0)))
    assert [request.speed for request in decoder.requests] == [2, 2]
    assert [request.lead_seconds for request in decoder.requests] == pytest.approx([0, 2 * 0.08])


async def test_a_file_is_made_as_fast_as_it_can_be() -> None:
    decoder = FakeDecoder()
    await heard(SpeechPipeline(FakeEncoder(), decoder).stream(replace(asked(), is_streamed=False)))
    assert [request.paced for request in decoder.requests] == [False]


async def test_later_turns_go_before_requests_that_nobody_listens_to_yet() -> None:
    decoder = FakeDecoder()
    await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked(scene(3))))
    first, *later = [request.priority for request in decoder.requests]
    assert all(priority < first for priority in later)


async def test_background_work_stays_in_the_background_in_each_of_its_turns() -> None:
    decoder = FakeDecoder()
    await heard(SpeechPipeline(FakeEncoder(), decoder).stream(replace(asked(scene(3)), priority=1)))
    assert {request.priority for request in decoder.requests} == {1}


async def test_turns_have_seeds_and_ids_of_their_own_that_derive_from_the_answers() -> None:
    async def requests(seed: int) -> list[tuple[str, int]]:
        decoder = FakeDecoder()
        await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked(scene(3), seed=seed)))
        return [(request.request_id, request.sampling.seed) for request in decoder.requests]

    once = await requests(5)
    assert once == await requests(5)
    assert once[0][1] == 5
    assert len({seed for _, seed in once + await requests(6)}) == 6
    assert [name for name, _ in once] == ["r-0", "r-1", "r-2"]


async def test_a_scene_is_one_answer_accepted_once_with_frames_numbered_through() -> None:
    accepted, chunks = await heard(SpeechPipeline(FakeEncoder(), FakeDecoder()).stream(asked(scene(3))))
    assert accepted.request_id == "r"
    next_frame = 0
    for chunk in chunks:
        assert chunk.first_frame == next_frame
        next_frame += chunk.codes.num_frames
    assert next_frame == 12
    assert [chunk.finish for chunk in chunks if chunk.finish] == [FinishReason.EOS]
    assert chunks[-1].finish is FinishReason.EOS


async def test_the_longest_audio_is_of_the_whole_answer_and_leaves_other_turns_unspoken() -> None:
    decoder = FakeDecoder()
    _, chunks = await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked(scene(4), max_audio_seconds=6 * 0.08)))
    assert [request.sampling.max_frames for request in decoder.requests] == [6, 2]
    assert (chunks[-1].first_frame, chunks[-1].finish) == (6, FinishReason.LENGTH)


async def test_an_answer_that_ends_exactly_at_the_limit_with_turns_left_was_cut() -> None:
    decoder = FakeDecoder()
    stream = SpeechPipeline(FakeEncoder(), decoder).stream(asked(scene(2), max_audio_seconds=4 * 0.08))
    _, chunks = await heard(stream)
    assert len(decoder.requests) == 1
    assert chunks[-1].finish is FinishReason.LENGTH


@pytest.mark.parametrize("num_frames", [1, 29, 57, 113, 201])
async def test_a_limit_of_whole_frames_in_seconds_is_that_many_frames(num_frames: int) -> None:
    decoder = FakeDecoder()
    request = asked((Turn("word " * 200, 0),), max_audio_seconds=num_frames / 12.5)
    await heard(SpeechPipeline(FakeEncoder(), decoder).stream(request))
    assert decoder.requests[0].sampling.max_frames == num_frames


async def test_the_shortest_limit_is_one_frame() -> None:
    decoder = FakeDecoder()
    await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked(max_audio_seconds=0.001)))
    assert decoder.requests[0].sampling.max_frames == 1


async def test_a_short_text_caps_its_turn_below_the_limit() -> None:
    decoder = FakeDecoder()
    await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked()))
    assert decoder.requests[0].sampling.max_frames == frame_cap(1)


async def test_a_turn_of_no_frames_is_left_out_of_what_follows() -> None:
    decoder = FakeDecoder(Utterance(num_frames=0), Utterance(num_frames=2))
    _, chunks = await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked(scene(2))))
    assert decoder.requests[1].context == ()
    assert (chunks[-1].first_frame, chunks[-1].finish) == (2, FinishReason.EOS)


async def test_an_answer_of_no_frames_ends_as_any_other() -> None:
    decoder = FakeDecoder(Utterance(num_frames=0))
    _, chunks = await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked()))
    assert [chunk.pcm for chunk in chunks] == [b""] * len(chunks)
    assert (chunks[-1].codes.num_frames, chunks[-1].finish) == (0, FinishReason.EOS)


async def test_a_turn_that_did_not_end_by_itself_names_the_answers_finish() -> None:
    decoder = FakeDecoder(*[Utterance(finish=FinishReason.RUNAWAY)] * 3, Utterance())
    _, chunks = await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked(scene(2))))
    assert [request.text for request in decoder.requests] == ["Turn 0."] * 3 + ["Turn 1."]
    assert chunks[-1].finish is FinishReason.RUNAWAY


async def test_a_turn_that_the_engine_gave_up_is_the_last() -> None:
    decoder = FakeDecoder(Utterance(finish=FinishReason.CANCELLED), Utterance())
    _, chunks = await heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked(scene(2))))
    assert len(decoder.requests) == 1
    assert chunks[-1].finish is FinishReason.CANCELLED


async def test_closing_an_answer_early_closes_the_stream_behind_it() -> None:
    decoder = FakeDecoder(Utterance(stalls=True))
    async with aclosing(SpeechPipeline(FakeEncoder(), decoder).stream(asked(scene(2)))) as stream:
        await anext(stream)
        await anext(stream)
        assert decoder.num_open == 1
    assert (decoder.num_open, len(decoder.requests)) == (0, 1)


async def test_cancelling_who_waits_for_a_slot_gives_up_the_place_in_the_queue() -> None:
    decoder = FakeDecoder(Utterance(waits_for_slot=True))
    waiting = asyncio.create_task(heard(SpeechPipeline(FakeEncoder(), decoder).stream(asked())))
    await decoder.news.wait()
    assert decoder.num_open == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert decoder.num_open == 0


async def test_a_refusal_comes_instead_of_accepted() -> None:
    decoder = FakeDecoder(Utterance(refusal=Overloaded("full", 3)))
    with pytest.raises(Overloaded) as refused:
        await anext(SpeechPipeline(FakeEncoder(), decoder).stream(asked()))
    assert refused.value.retry_after_seconds == 3
    assert decoder.num_open == 0


async def test_a_break_in_a_later_turn_is_raised_after_what_was_spoken() -> None:
    decoder = FakeDecoder(Utterance(), Utterance(break_with=GenerationFailed("broken")))
    received = []
    with pytest.raises(GenerationFailed):
        async for message in SpeechPipeline(FakeEncoder(), decoder).stream(asked(scene(2))):
            received.append(message)
    assert sum(m.codes.num_frames for m in received if isinstance(m, AudioChunk)) == 8
    assert decoder.num_open == 0


async def test_info_is_asked_until_it_was_answered_once() -> None:
    decoder = FakeDecoder()
    pipeline = SpeechPipeline(FakeEncoder(), decoder)
    decoder.not_ready = NotReady("loading")
    with pytest.raises(NotReady):
        await pipeline.info()
    decoder.not_ready = None
    assert (await pipeline.info()).model == "fake"
    decoder.not_ready = NotReady("gone")
    assert (await pipeline.info()).model == "fake"
    with pytest.raises(NotReady):
        await pipeline.check_ready()
