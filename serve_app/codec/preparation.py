"""Has another process make a codec ready, so that this one needs no torch: 300 MB and seconds of its start.

The result is kept in the user's cache where the checkpoint's files tell whether it still holds.
"""

import fcntl
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import platformdirs

from serve_app.codec.native.decoder import unusable
from serve_app.codec.prepared import PreparedCodec
from serve_app.errors import CheckpointError
from serve_app.model.layout import is_plain_folder, local_folder
from serve_app.model.native.build import processor
from serve_app.settings import Settings

_log = logging.getLogger(__name__)
_MOST_KEPT = 8
"""Files. A full-size codec's has 300 MB."""


def prepared_codec(settings: Settings) -> PreparedCodec | None:
    """None where moshi must decode: on a card, by `codec.step`, or where the kernels cannot do what this codec does.

    Raises CheckpointError where the checkpoint cannot be served.
    """
    if settings.codec.step == "moshi" or settings.device == "cuda" or (settings.device == "auto" and _has_card()):
        return None
    if unusable():
        return None
    with _file_for(settings) as path:
        if not path.exists() and not _made(settings, path):
            return None
        return PreparedCodec.read(path)


def _has_card() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


@contextmanager
def _file_for(settings: Settings) -> Iterator[Path]:
    """Where the codec lies or is to be put. Nobody else makes it meanwhile."""
    name = _name(settings)
    folder = Path(platformdirs.user_cache_dir("csm-serve", appauthor=False)) / "codecs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{name}.lock").open("w") if name else None
    except OSError:
        name = lock = None
    if lock is None:
        with tempfile.TemporaryDirectory(prefix="csm-serve-codec-") as passing:
            yield Path(passing) / "codec.safetensors"
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / f"{name}.safetensors"
        if path.exists():
            os.utime(path)  # The oldest are forgotten.
        yield path
        _forget_old(folder)
        _clear_drafts(folder)


def _forget_old(folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    for file in files[:-_MOST_KEPT]:
        file.unlink(missing_ok=True)
        file.with_suffix(".lock").unlink(missing_ok=True)


def _clear_drafts(folder: Path) -> None:
    """Of processes that died while they made one. A draft whose lock is held is being written."""
    for draft in folder.glob("*.draft"):
        with draft.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            draft.unlink(missing_ok=True)


def _name(settings: Settings) -> str | None:
    """Of all that the result depends on. None where this process cannot tell: a repository may have moved on."""
    folder = local_folder(settings.model)
    if folder is None or settings.base is not None or not is_plain_folder(folder):
        return None
    digest = hashlib.sha256(f"{folder.resolve()} {version('torch')} {version('moshi')} {processor()}".encode())
    for file in sorted(folder.rglob("*")):
        stat = file.stat()
        digest.update(f"{file.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\0".encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:32]


def _made(settings: Settings, path: Path) -> bool:
    """Whether the kernels can run this codec, which is then in `path`."""
    draft = path.with_suffix(".draft")
    try:
        if not _written(settings, draft):
            return False
        draft.rename(path)
        return True
    finally:
        draft.unlink(missing_ok=True)


def _written(settings: Settings, draft: Path) -> bool:
    """Whether another process has written the codec to `draft`. Where it has not, a part may lie there."""
    wanted = {"model": settings.model, "revision": settings.revision, "base": settings.base, "path": str(draft)}
    command = [sys.executable, "-m", "serve_app.codec.prepare", json.dumps(wanted)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        said = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        _log.warning("the codec was not made ready by its own process (exit status %d)", done.returncode)
        return False
    if "error" in said:
        raise CheckpointError(said["error"])
    return "reason" not in said  # The choice of the step says why.
