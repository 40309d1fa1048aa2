"""A speaker to whom nobody gives a voice sounds the same on every replica, from the first call on."""

from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.messages import RANDOM, ContextSegment, FinishReason
from serve_app.settings import FileSettings, Settings
from serve_app.speech.files import SpeechFiles
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.speaker_voices import SpeakerVoices
from serve_app.store.database import Database
from serve_app.store.files import FileStore
from serve_app.store.object_store import Objects
from tests.support.fakes import INFO, FakeDecoder, FakeEncoder, Utterance, frames_of


@pytest.fixture
def files(tmp_path: Path) -> SpeechFiles:
    database = Database.open(f"sqlite:///{tmp_path / 'state.db'}")
    return SpeechFiles(FileStore(database, Objects.open(FileSettings(), tmp_path), FileSettings()), b"secret")


def replica(files: SpeechFiles, decoder: FakeDecoder, encoder: FakeEncoder | None = None) -> SpeakerVoices:
    return SpeakerVoices(SpeechPipeline(encoder or FakeEncoder(), decoder), files, Settings())


async def test_it_is_spoken_once_for_all_replicas(files: SpeechFiles) -> None:
    decoder = FakeDecoder(Utterance(num_frames=20))
    first = await replica(files, decoder).segments([5, 7])
    second = await replica(files, decoder).segments([7, 5])
    assert first == second
    assert [(voice.speaker, voice.anchor, voice.codes.num_frames) for voice in first] == [(5, True, 20), (7, True, 20)]
    assert len(decoder.requests) == 2
    assert len({request.sampling.seed for request in decoder.requests}) == 2


async def test_a_checkpoints_own_voice_comes_first(files: SpeechFiles) -> None:
    decoder = FakeDecoder(Utterance(num_frames=20))
    encoder = FakeEncoder({0: ContextSegment("Its own.", 0, frames_of(9, 3), anchor=True)})
    voices = await replica(files, decoder, encoder).segments([0, 1])
    assert [voice.speaker for voice in voices] == [1]


async def test_a_try_that_does_not_end_by_itself_is_drawn_again(files: SpeechFiles) -> None:
    decoder = FakeDecoder(Utterance(20, FinishReason.LENGTH), Utterance(20))
    (voice,) = await replica(files, decoder).segments([3])
    assert voice.codes.num_frames == 20
    assert len(decoder.requests) == 2


async def test_random_weights_get_none(files: SpeechFiles) -> None:
    decoder = FakeDecoder(info=replace(INFO, weights=RANDOM))
    assert await replica(files, decoder).segments([0]) == ()
    assert not decoder.requests
