"""One server for a file of tests; those that break something start their own."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.audio.wav import wav_file
from serve_app.settings import JobSettings, KeySettings, NetSettings, WebhookSettings
from tests.support.contract_server import Server, serving
from tests.support.fakes import pcm_of
from tests.support.system_packages import need, require

SCRIPTS = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("data"),
        jobs=JobSettings(poll_seconds=0.02, max_running=8, retry_seconds=0.05),
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


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts, with what they want installed beside them: fal's client, and axe-core for the page."""
    need("node", "npm")
    folder = tmp_path_factory.mktemp("node") / "contract"
    shutil.copytree(SCRIPTS, folder)
    install = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=120)
    require("npm", done.returncode == 0, f"npm ci failed: {done.stderr.strip().splitlines()[-1:]}")
    return folder
