"""Text that arrives while it is spoken, from its characters to its sound, over fakes of the graph."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.errors import InvalidRequest, LimitReached
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.messages import AudioChunk, FinishReason, GenerationRequest, TrainedFor
from serve_app.settings import KeySettings, LimitSettings, Settings
from serve_app.speech.build import Asked
from serve_app.speech.call import Call
from serve_app.speech.live.cutter import Schedule
from serve_app.speech.live.text import LiveText
from serve_app.speech.parts import Part
from serve_app.speech.scene import Turn
from serve_app.speech.service import SpeechService
from serve_app.store.database import Database
from tests.support.fakes import INFO, FakeDecoder, Utterance
from tests.support.speech import speech_service
from tests.unit.speech.text.everyday_cases import CASES

TALE = "The keeper lit the lamp. The sea was calm that night. Nobody came by for $3.50 or so."
AT_SENTENCES = Schedule(num_clauses=0)
ASKED = Asked([Turn("", 0)], seed=3)
CALL = Call("r", ANONYMOUS)


async def opened(
    speech: SpeechService, *portions: str, schedule: Schedule = AT_SENTENCES, settings: Settings | None = None
) -> tuple[list[AudioChunk], FinishReason | None]:
    scene, text = await speech.live(ASKED, settings or Settings(), schedule)
    for portion in portions:
        text.feed(portion)
    text.close()
    async with await speech.open(scene, CALL, text) as answer:
        chunks = [chunk async for chunk in answer.chunks()]
    return chunks, answer.outcome.finish_reason


def utterances(decoder: FakeDecoder) -> list[GenerationRequest]:
    """What an utterance is conditioned on, and how it is drawn."""
    return [replace(r, request_id="", becomes_context=True, lead_seconds=0.0, trace="") for r in decoder.requests]


async def parts(text: LiveText) -> list[Part]:
    return [part async for part in text.parts()]


@pytest.mark.parametrize("portions", [[TALE], re.findall(r"\S+\s*", TALE), list(TALE)], ids=["whole", "words", "chars"])
async def test_growing_text_is_spoken_exactly_as_the_whole_text(portions: list[str]) -> None:
    plain, live = FakeDecoder(), FakeDecoder()
    speech = speech_service(plain)
    scene = await speech.scene(replace(ASKED, turns=[Turn(TALE, 0)]), Settings())
    async with await speech.open(scene, CALL) as answer:
        whole = [chunk async for chunk in answer.chunks()]
    chunks, finish = await opened(speech_service(live), *portions)
    assert utterances(live) == utterances(plain)
    assert b"".join(chunk.pcm for chunk in chunks) == b"".join(chunk.pcm for chunk in whole)
    assert (finish, chunks[-1].spoken_chars) == (FinishReason.EOS, len(TALE))
    assert [chunk.part for chunk in chunks if chunk.part] == [chunk.part for chunk in whole if chunk.part]


async def test_it_is_told_which_characters_each_stretch_of_audio_says() -> None:
    chunks, _ = await opened(speech_service(FakeDecoder(Utterance(num_frames=6))), TALE)
    told = [chunk.part for chunk in chunks if chunk.part]
    assert [TALE[part.start_char : part.end_char].strip() for part in told] == [
        "The keeper lit the lamp.",
        "The sea was calm that night.",
        "Nobody came by for $3.50 or so.",
    ]
    pause = 5
    assert [(part.first_frame, part.end_frame) for part in told] == [
        (0, 6),
        (6 + pause, 12 + pause),
        (12 + 2 * pause, 18 + 2 * pause),
    ]


@pytest.mark.parametrize("group", CASES)
async def test_a_text_that_grows_is_read_as_the_whole_is(group: str) -> None:
    for typed, said in CASES[group]:
        text = LiveText(TrainedFor(), Schedule(num_clauses=10**6))
        for char in typed:
            text.feed(char)
        text.close()
        assert " ".join([part.piece.text async for part in text.parts()]).split() == said.split()


async def test_a_clause_is_spoken_while_its_sentence_is_still_being_written() -> None:
    decoder = FakeDecoder()
    speech = speech_service(decoder)
    scene, text = await speech.live(ASKED, Settings(), Schedule())
    text.feed("Once upon a time, th")
    assert await text.ready()
    async with await speech.open(scene, CALL, text) as answer, aclosing(answer.chunks()) as chunks:
        assert (await anext(chunks)).pcm
        assert [request.text for request in decoder.requests] == ["Once upon a time,"]
        text.feed("ere was a king.")
        text.close()
        rest = [chunk async for chunk in chunks]
    assert [request.text for request in decoder.requests][1:] == ["there was a king."]
    assert rest[-1].finish is FinishReason.EOS


async def test_while_text_is_awaited_no_slot_is_held() -> None:
    decoder = FakeDecoder()
    speech = speech_service(decoder)
    scene, text = await speech.live(ASKED, Settings(), Schedule())
    text.feed("The keeper lit the lamp. T")
    async with await speech.open(scene, CALL, text) as answer, aclosing(answer.chunks()) as chunks:
        while (await anext(chunks)).part is None:
            pass
        waiting = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0)
        assert (decoder.num_open, waiting.done()) == (0, False)
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_a_listener_that_leaves_frees_everything_though_text_still_comes() -> None:
    decoder = FakeDecoder(Utterance(stalls=True))
    speech = speech_service(decoder)
    scene, text = await speech.live(ASKED, Settings(), Schedule())
    text.feed(TALE)
    async with await speech.open(scene, CALL, text) as answer, aclosing(answer.chunks()) as chunks:
        await anext(chunks)
        assert decoder.num_open == 1
    assert decoder.num_open == 0
    assert speech.outcomes.get(ANONYMOUS.id, "r").finish_reason is FinishReason.CANCELLED


@pytest.mark.parametrize("stalls", [True, False], ids=["in speech", "while it waits for text"])
async def test_a_cancelled_speaker_frees_its_slot(stalls: bool) -> None:
    decoder = FakeDecoder(Utterance(stalls=stalls))
    speech = speech_service(decoder)
    scene, text = await speech.live(ASKED, Settings(), Schedule(patience_seconds=None))
    text.feed("The keeper lit the lamp. T")
    num_heard = 0

    async def speak() -> None:
        nonlocal num_heard
        async with await speech.open(scene, CALL, text) as answer, aclosing(answer.chunks()) as chunks:
            async for _ in chunks:
                num_heard += 1

    speaking = asyncio.create_task(speak())
    async with asyncio.timeout(5):
        while num_heard == 0 or decoder.num_open != stalls:
            await asyncio.sleep(0)
    speaking.cancel()
    await asyncio.wait([speaking])
    assert (speaking.cancelled(), decoder.num_open) == (True, 0)
    assert speech.outcomes.get(ANONYMOUS.id, "r").finish_reason is FinishReason.CANCELLED


async def test_text_without_a_word_ends_without_a_part() -> None:
    text = LiveText(TrainedFor())
    text.feed(" \n** ")
    text.close()
    assert not await text.ready()
    assert await parts(text) == []


async def test_half_a_character_waits_for_its_other_half() -> None:
    text = LiveText(TrainedFor(), is_normalized=False)
    text.feed("Look at it \ud83d")
    text.feed("\ude00 now.")
    text.close()
    assert [part.piece.text for part in await parts(text)] == ["Look at it \U0001f600 now."]


async def test_what_is_not_spoken_is_told() -> None:
    text = LiveText(TrainedFor())
    text.feed("Good \U0001f600 morning to you. And good \U0001f600 night.")
    text.close()
    await parts(text)
    assert [str(notice) for notice in text.notices] == ["emoji: 2 not spoken"]


async def test_a_listener_who_waits_is_told_a_clause_and_a_sentence_at_the_end() -> None:
    text = LiveText(TrainedFor(), Schedule(num_clauses=0, patience_seconds=0.01))
    text.feed("If you like it, say so.")
    coming = text.parts()
    assert [(await anext(coming)).piece.text for _ in range(2)] == ["If you like it,", "say so."]


async def test_too_much_text_that_waits_is_refused_and_what_came_before_is_kept() -> None:
    text = LiveText(TrainedFor(), max_waiting_chars=30)
    text.feed("The keeper lit the lamp. ")
    with pytest.raises(InvalidRequest, match="at most 30 are allowed") as refused:
        text.feed("The sea was calm.")
    assert refused.value.field == "text"
    coming = text.parts()
    text.flush()
    assert (await anext(coming)).piece.text == "The keeper lit the lamp."
    text.feed("The sea was calm.")
    text.close()
    with pytest.raises(InvalidRequest, match="after the end"):
        text.feed("More.")
    assert [part.piece.text async for part in coming] == ["The sea was calm."]


async def test_the_limit_is_the_one_of_a_requests_text() -> None:
    settings = Settings(limits=LimitSettings(max_text_chars=5))
    _, text = await speech_service().live(ASKED, settings, Schedule())
    with pytest.raises(InvalidRequest):
        text.feed("Hello there.")


async def test_an_unknown_speaker_is_refused_before_any_text() -> None:
    with pytest.raises(InvalidRequest) as refused:
        await speech_service().live(replace(ASKED, turns=[Turn("", 1000)]), Settings(), Schedule())
    assert refused.value.field == "turns[0].speaker"


async def test_the_answers_own_limit_of_audio_ends_it() -> None:
    decoder = FakeDecoder(Utterance(num_frames=10))
    speech = speech_service(decoder)
    scene, text = await speech.live(replace(ASKED, max_audio_seconds=1.0), Settings(), AT_SENTENCES)
    text.feed(TALE)
    async with await speech.open(scene, CALL, text) as answer:
        chunks = [chunk async for chunk in answer.chunks()]
    assert (sum(chunk.num_frames for chunk in chunks), chunks[-1].finish) == (12, FinishReason.LENGTH)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    yield database
    database.close()


async def test_a_key_is_charged_part_by_part_for_what_was_made(database: Database) -> None:
    key: Key = Keys(database, KeySettings()).create("Ann", audio_seconds_per_minute=9)[0]
    allowance = Allowance(database, lambda: 1000.0)
    speech = speech_service(FakeDecoder(Utterance(num_frames=25)), allowance=allowance)
    scene, text = await speech.live(ASKED, Settings(), AT_SENTENCES)
    text.feed(TALE)
    async with await speech.open(scene, replace(CALL, key=key), text) as answer:
        with pytest.raises(LimitReached, match="9 seconds of audio a minute"):
            _ = [chunk async for chunk in answer.chunks()]
    # One part of 2 s was made; the next might have taken 8 s.
    async with allowance.take(key, 7.0):
        pass
    with pytest.raises(LimitReached):
        async with allowance.take(key, 7.1):
            pass


async def test_the_model_decides_how_long_a_piece_is() -> None:
    short = replace(INFO, trained_for=TrainedFor(longest_piece_words=6))
    decoder = FakeDecoder(info=short)
    await opened(speech_service(decoder), "one two three four five six seven eight nine ten eleven twelve")
    assert [len(request.text.split()) for request in decoder.requests] == [6, 6]
