"""The object store: a folder by default, S3 or a similar service on a cluster. An object is one piece of a file.

It runs obstore's synchronous calls in its own threads. The asynchronous ones sometimes abort the process at exit, and
panic if a caller is cancelled (0.12).
"""

import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from serve_app.errors import StartupError, StorageFailed
from serve_app.settings import FileSettings
from serve_app.turns import FairThreads, TurnLimits

T = TypeVar("T")

_CHUNK_BYTES = 1024 * 1024
_LIMITS = TurnLimits("files wait", at_once=8, waiting=512, waiting_of_owner=128, wait_seconds=60.0)
_RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
"""The caller waits meanwhile, so obstore's default of three minutes is too long."""
_CLIENT_OPTIONS = {
    "allow_http", "allow_invalid_certificates", "connect_timeout", "default_content_type", "default_headers",
    "http1_only", "http2_only", "pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate",
    "proxy_excludes", "proxy_url", "randomize_addresses", "read_timeout", "root_certificate", "timeout", "user_agent",
}  # fmt: skip

_log = logging.getLogger(__name__)


class Objects:
    """Stores bytes by key. A key is written once, whole or not at all. All methods may raise StorageFailed.

    `owner` is the API key whose file it is. Where all threads are busy, owners take turns, an object or a chunk each.
    Overloaded where too many wait.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._folder = store.prefix if isinstance(store, LocalStore) else None
        self._threads = FairThreads("object-store", _LIMITS)

    @classmethod
    def open(cls, settings: FileSettings, data_dir: Path) -> Self:
        """Raises StartupError for an unusable URL, option or folder. It does not contact a server."""
        try:
            if settings.url is None:
                folder = data_dir / "files"
                data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.mkdir(mode=0o700, exist_ok=True)
                return cls(LocalStore(folder))
            return cls(
                _store(settings.url, {name: value.get_secret_value() for name, value in settings.options.items()})
            )
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise StartupError(
                f"files.url or files.options: cannot use the file store ({type(error).__name__}): leave files.url out "
                "for a folder in data_dir, or name s3://BUCKET/PREFIX and options as obstore names them"
            ) from None

    async def put(self, key: str, data: bytes, owner: str) -> None:
        """Store an object. After the return it survives a power cut, as the database does."""

        def put() -> None:
            obstore.put(self._store, key, data, use_multipart=False)
            if self._folder:
                _sync(self._folder / key)

        await self._run(owner, put)

    async def read(self, key: str, start: int, end: int, owner: str) -> AsyncIterator[bytes]:
        """Bytes from `start` up to `end`, in chunks of one MiB."""
        for first in range(start, end, _CHUNK_BYTES):
            last = min(first + _CHUNK_BYTES, end)
            yield bytes(await self._run(owner, partial(obstore.get_range, self._store, key, start=first, end=last)))

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects. A missing key is no error."""
        if folder := self._folder:
            await self._run("", lambda: _unlink(folder, keys))
        elif keys:
            await self._run("", lambda: obstore.delete(self._store, keys))

    def close(self) -> None:
        self._threads.close()

    async def _run(self, owner: str, work: Callable[[], T]) -> T:
        try:
            return await self._threads.run(owner, work)
        except (BaseError, OSError) as error:
            _log.error("file store: %s: %s", type(error).__name__, str(error).partition("\n")[0])
            raise StorageFailed("the file store does not answer or refuses; try again later") from None


def _store(url: str, options: Mapping[str, str]) -> ObjectStore:
    # obstore wants client options apart from the others, and panics over one in the wrong place.
    client_options: Any = {name: value for name, value in options.items() if name in _CLIENT_OPTIONS}
    config: Any = {name: value for name, value in options.items() if name not in _CLIENT_OPTIONS}
    if any(value.startswith("http://") for value in config.values()):
        client_options.setdefault("allow_http", "true")  # the endpoint asks for it
    return from_url(url, config=config or None, client_options=client_options or None, retry_config=_RETRIES)


def _sync(path: Path) -> None:
    for entry in (path, path.parent):
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unlink(folder: Path, keys: Sequence[str]) -> None:
    for key in keys:
        path = folder / key
        path.unlink(missing_ok=True)
        # Partial files of an obstore that was killed while it wrote.
        for partial_file in path.parent.glob(f"{path.name}#*"):
            partial_file.unlink(missing_ok=True)
