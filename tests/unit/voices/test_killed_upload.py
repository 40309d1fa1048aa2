"""A process that is killed while it keeps a voice leaves no voice, no taken name, and no bytes for ever."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from serve_app.settings import FileSettings, VoiceSettings
from serve_app.store.database import Database
from serve_app.store.file_records import GRACE_SECONDS
from serve_app.store.files import FileStore
from serve_app.store.object_store import Objects
from serve_app.voices.library import VoiceLibrary
from tests.support.fakes import FakeEncoder
from tests.unit.voices.conftest import OWNER, new_voice

_UPLOAD = """
import asyncio, sys
from pathlib import Path
from tests.unit.voices.test_killed_upload import open_library
from tests.unit.voices.conftest import OWNER, new_voice

async def upload() -> None:
    library, _ = open_library(Path(sys.argv[1]))
    async def hang(*_: object) -> None:
        print("stored", flush=True)
        await asyncio.sleep(600)
    library._records.add = hang
    await library.add(new_voice(), OWNER)

asyncio.run(upload())
"""


class Later:
    """Unix seconds, set by hand."""

    seconds = 0.0

    def __call__(self) -> float:
        import time

        return time.time() + self.seconds


def open_library(folder: Path, clock: Later | None = None) -> tuple[VoiceLibrary, FileStore]:
    database = Database.open(f"sqlite:///{folder / 'state.db'}")
    files = FileStore(database, Objects.open(FileSettings(), folder), FileSettings(), clock or Later())
    return VoiceLibrary(database, files, FakeEncoder(), VoiceSettings()), files


async def test_it_leaves_nothing(tmp_path: Path) -> None:
    upload = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _UPLOAD, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert upload.stdout is not None
    assert await upload.stdout.readline() == b"stored\n"
    os.kill(upload.pid, signal.SIGKILL)
    await upload.wait()

    clock = Later()
    library, files = open_library(tmp_path, clock)
    assert await library.all(OWNER) == []
    kept = await library.add(new_voice(), OWNER)
    stored = sum(path.is_file() for path in (tmp_path / "files").rglob("*"))
    assert stored == 4
    await files.sweep()  # the files of the killed upload are given an hour
    clock.seconds = 3700
    await files.sweep()
    clock.seconds += GRACE_SECONDS + 1
    await files.sweep()
    assert sum(path.is_file() for path in (tmp_path / "files").rglob("*")) == 2
    assert await library.segments(kept.id, OWNER, 0)
