"""One server for a file of tests; those that break something start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.audio.wav import wav_file
from serve_app.settings import JobSettings, KeySettings, NetSettings, WebhookSettings
from tests.support.contract_server import Server, serving
from tests.support.fakes import pcm_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("data"),
        jobs=JobSettings(poll_seconds=0.02, max_running=8),
        webhooks=WebhookSettings(first_delay_seconds=0.1),
        net=NetSettings(allowed_hosts=["127.0.0.1"]),
        keys=KeySettings(open=True),
    ) as server:
        yield server


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A second of sound."""
    path = tmp_path / "clip.wav"
    path.write_bytes(wav_file(pcm_of(5, 13)[:48_000]))
    return path
