"""A voice library on the real databases, with a real folder of files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.settings import FileSettings, VoiceSettings
from serve_app.store.database import Database
from serve_app.store.files import FileStore
from serve_app.store.object_store import Objects
from serve_app.voices.library import VoiceLibrary
from serve_app.voices.voice import Consent, NewVoice, VoiceClip
from tests.support.fakes import FakeEncoder
from tests.support.sounds import speech_like

OWNER = "csm_one"
CONSENT = Consent("I agree that my voice is used in tests.", "Ann Example")


class Kit:
    """Two replicas of one server: each has a library of its own, on one database and one store."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.files = FileStore(database, Objects.open(FileSettings(), folder), FileSettings())
        self.encoder = FakeEncoder()
        self.here, self.there = self.library(), self.library()

    def library(self, encoder: FakeEncoder | None = None, **settings: object) -> VoiceLibrary:
        wanted = VoiceSettings.model_validate(settings)
        return VoiceLibrary(self.database, self.files, encoder or self.encoder, wanted)


def new_voice(name: str = "Ann", num_clips: int = 1, consent: Consent = CONSENT) -> NewVoice:
    clips = tuple(VoiceClip(f"These are the words of clip {n}.", speech_like(4.0, seed=n)) for n in range(num_clips))
    return NewVoice(name, clips, consent)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'state.db'}"
    else:
        url = request.getfixturevalue("postgres").new_database()
    opened = Database.open(url)
    yield opened
    opened.close()


@pytest.fixture
def kit(database: Database, tmp_path: Path) -> Kit:
    return Kit(database, tmp_path / "data")
