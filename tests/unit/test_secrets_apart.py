"""Secrets of the environment do not travel with the settings that Serve sends to replicas and keeps."""

import pickle

import pytest

from serve_app.errors import StartupError
from serve_app.settings import Settings

URL = "postgresql+psycopg://csm:hunter2@db/csm"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_DATABASE__URL", URL)
    monkeypatch.setenv("CSM_FILES__OPTIONS", '{"secret_access_key": "opensesame"}')


def test_what_is_sent_holds_no_secret_and_arrives_whole() -> None:
    settings = Settings(model="demo")
    sent = pickle.dumps(settings)
    assert b"hunter2" not in sent and b"opensesame" not in sent
    arrived = pickle.loads(sent)
    assert arrived == settings
    assert arrived.database_url == URL
    assert arrived.files.options["secret_access_key"].get_secret_value() == "opensesame"


@pytest.mark.parametrize("variable", ["CSM_DATABASE__URL", "CSM_FILES__OPTIONS"])
def test_a_node_without_the_secret_says_which(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(Settings())
    monkeypatch.delenv(variable)
    with pytest.raises(StartupError, match=f"{variable} .* every Ray process"):
        pickle.loads(sent)


def test_what_is_no_setting_of_the_environment_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(database={"url": "sqlite:////tmp/other.db"})
    assert pickle.loads(pickle.dumps(given)) == given


def test_a_copy_keeps_them() -> None:
    assert Settings().model_copy(update={"model": "demo"}).database_url == URL
