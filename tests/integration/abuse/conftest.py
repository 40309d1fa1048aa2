"""A server with keys and a small disk for files, that has everything but the size of the model."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve_app.app import build_graph
from serve_app.keys.keys import Keys
from serve_app.settings import EngineSettings, FileSettings, KeySettings, NetSettings, Settings, WebhookSettings
from serve_app.store.database import Database
from tests.support.abuse import Bystander
from tests.support.ray_server import Server, SharedRay

_DISK_MB = 96


@dataclass(frozen=True, slots=True)
class Abused:
    server: Server
    data_dir: Path
    database_url: str
    attacker: str
    bystander: Bystander


@pytest.fixture(scope="session")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder whose files have 96 MB, if this user may mount one. The database is beside."""
    data_dir = tmp_path_factory.mktemp("abused")
    files = data_dir / "files"
    files.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "csm-abuse", str(files)],
            check=False,
            capture_output=True,
        ).returncode
    )
    yield data_dir
    if mounted:
        subprocess.run(["umount", "--lazy", str(files)], check=True)


@pytest.fixture(scope="module")
def abused(ray_of_session: SharedRay, small_disk: Path, tiny_checkpoint_folder: Path) -> Abused:
    settings = Settings(
        model=str(tiny_checkpoint_folder),
        data_dir=small_disk,
        engine=EngineSettings(max_batch_size=8, max_waiting=16, max_wait_seconds=60, threads=1),
        keys=KeySettings(required=True, cached_seconds=1),
        net=NetSettings(allowed_hosts=["127.0.0.1"]),
        webhooks=WebhookSettings(timeout_seconds=3),
        files=FileSettings(quota_bytes=64 * 2**20, max_file_bytes=32 * 2**20),
    )
    database = Database.open(settings.database_url)
    keys = Keys(database, settings.keys)
    # Without limits of their own, as keys are by default.
    (_, attacker), (_, other) = keys.create("Attacker"), keys.create("Bystander")
    database.close()
    server = ray_of_session.serving("abused", lambda: build_graph(settings))
    return Abused(server, small_disk, settings.database_url, attacker, Bystander(server, other))
