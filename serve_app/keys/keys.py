"""Creates, lists, rotates and revokes keys, and authenticates requests."""

import asyncio
import hmac
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from sqlalchemy import Row, insert, select, update

from serve_app.errors import InvalidRequest, StorageFailed, Unauthorized, UnknownKey
from serve_app.keys.key import USUAL_SCOPES, Key, KeyLimits, Scope
from serve_app.keys.tables import KEYS
from serve_app.settings import KeySettings
from serve_app.store.database import Database

_log = logging.getLogger(__name__)

_FORM = re.compile(r"(csm_[0-9a-f]{16}):[\w-]{43}", re.ASCII)
_MAX_NAME_CHARS = 100
_LAST_USED_STEP_SECONDS = 60.0
"""`last_used_at` may lag by this much, because a write for each request would cost more than the check."""
_NO_HASH = bytes(32)
"""Compared against if there is no stored hash, so that the check takes the same time. Nothing hashes to it."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key and its history, for administrators. Times are unix seconds."""

    key: Key
    created_at: float
    last_used_at: float | None
    revoked_at: float | None
    previous_until: float | None
    """When the secret before the last rotation becomes invalid."""


class Keys:
    """Stores secrets as SHA-256 hashes. They hold 256 random bits, so a slow password hash would add nothing."""

    def __init__(self, database: Database, settings: KeySettings, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        # Valid keys only, with their expiry: by the hash of id and secret (`check`), by id (`find`), or by id and
        # generation (`confirm`).
        self._cached: dict[bytes | str, tuple[float, Key]] = {}
        self._reading: dict[str, asyncio.Task[Row[Any] | None]] = {}
        self._notes: set[asyncio.Task[None]] = set()

    def create(
        self,
        name: str,
        scopes: Iterable[Scope] = USUAL_SCOPES,
        audio_seconds_per_minute: float | None = None,
        concurrency: int | None = None,
    ) -> tuple[Key, str]:
        """The new key and `id:secret`, which cannot be shown again. None takes the server's default limit.

        Raises InvalidRequest for an unprintable name or a limit below 0.
        """
        _check_name(name)
        for field, limit in (("audio_seconds_per_minute", audio_seconds_per_minute), ("concurrency", concurrency)):
            if limit is not None and not 0 <= limit < float("inf"):
                raise InvalidRequest(field, "must be 0 or more; 0 means no limit")
        plaintext = _new_plaintext(f"csm_{secrets.token_hex(8)}")
        values = {
            "id": plaintext.partition(":")[0],
            "name": name,
            "scopes": " ".join(sorted(set(scopes))),
            "hash": _hash(plaintext),
            "audio_seconds_per_minute": audio_seconds_per_minute,
            "concurrency": concurrency,
            "created_at": self._clock(),
        }
        with self._database.writing() as connection:
            connection.execute(insert(KEYS).values(values))
            row = connection.execute(select(KEYS).where(KEYS.c.id == values["id"])).one()
        return self._key(row), plaintext

    def records(self) -> list[KeyRecord]:
        """All keys, revoked ones included, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(KEYS).order_by(KEYS.c.created_at, KEYS.c.id)).all()
        return [
            KeyRecord(self._key(row), row.created_at, row.last_used_at, row.revoked_at, row.previous_until)
            for row in rows
        ]

    def revoke(self, key_id: str) -> None:
        """Revoke a key for good, with its tokens; each replica follows within `keys.cached_seconds`.

        Running requests end normally.

        Raises UnknownKey.
        """
        self._change(key_id, revoked_at=self._clock())

    def rotate(self, key_id: str, grace_seconds: float) -> str:
        """`id:secret` with a new secret. The old secret, and tokens that were
        issued for it, stay valid for `grace_seconds`. Raises UnknownKey."""
        plaintext = _new_plaintext(key_id)
        self._change(
            key_id, previous_hash=KEYS.c.hash, previous_until=self._clock() + grace_seconds, hash=_hash(plaintext)
        )
        return plaintext

    async def check(self, plaintext: str) -> Key:
        """The key for `id:secret`. Raises Unauthorized.

        An unknown id and a wrong secret give the same message after the same work.
        """
        form = _FORM.fullmatch(plaintext)
        if form is None:
            raise Unauthorized("this is not a key: send all of it, ID:SECRET, as csm-serve keys create showed it")
        given = _hash(plaintext)
        return self._cached_key(given) or await self._checked(form[1], given)

    async def find(self, key_id: str) -> Key:
        """The key with that id, for a job that was submitted with it. Raises Unauthorized if it was revoked."""
        if (key := self._cached_key(key_id)) is not None:
            return key
        row = await self._row(key_id)
        if row is None or row.revoked_at is not None:
            raise Unauthorized("the key that submitted this is unknown or was revoked")
        return self._cache(key_id, self._key(row), self._clock() + self._settings.cached_seconds)

    async def confirm(self, key_id: str, generation: str) -> Key:
        """The key, if the secret of that generation is still good: for tokens, signed addresses and open sockets.

        Raises Unauthorized.
        """
        name = f"{key_id}:{generation}"
        if (key := self._cached_key(name)) is not None:
            return key
        row, now = await self._row(key_id), self._clock()
        good_until = _generation_good_until(row, generation)
        if row is None or good_until <= now:
            raise Unauthorized("the key behind this was revoked or has a new secret: ask again with the key")
        key = replace(self._key(row), generation=generation)
        return self._cache(name, key, min(good_until, now + self._settings.cached_seconds))

    async def _checked(self, key_id: str, given: bytes) -> Key:
        # Only valid keys are cached, so an unknown id and a wrong secret both query the database.
        row, now = await self._row(key_id), self._clock()
        good_until = _good_until(row, given, now)
        if row is None or good_until <= now:
            self._cached.pop(given, None)
            raise Unauthorized("this key is unknown, outdated or revoked")
        self._record_use(row, now)
        key = replace(self._key(row), generation=_generation(given))
        return self._cache(given, key, min(good_until, now + self._settings.cached_seconds))

    def _cached_key(self, by: bytes | str) -> Key | None:
        until, key = self._cached.get(by, (0.0, None))
        return key if self._clock() < until else None

    def _cache(self, by: bytes | str, key: Key, until: float) -> Key:
        self._cached[by] = (until, key)
        return key

    async def _row(self, key_id: str) -> Row[Any] | None:
        """All that ask at once share one query: a key's cached check ends for all its open streams together."""
        reading = self._reading.get(key_id)
        if reading is None:
            reading = self._reading[key_id] = asyncio.create_task(self._read_row(key_id))
            reading.add_done_callback(lambda _: self._reading.pop(key_id))
        return await asyncio.shield(reading)

    async def _read_row(self, key_id: str) -> Row[Any] | None:
        return await self._database.read(lambda c: c.execute(select(KEYS).where(KEYS.c.id == key_id)).one_or_none())

    def _key(self, row: Row[Any]) -> Key:
        audio, concurrency = row.audio_seconds_per_minute, row.concurrency
        limits = KeyLimits(
            self._settings.audio_seconds_per_minute if audio is None else audio,
            self._settings.concurrency if concurrency is None else concurrency,
        )
        return Key(row.id, row.name, frozenset(scope for scope in Scope if scope in row.scopes.split()), limits)

    def _change(self, key_id: str, **values: Any) -> None:
        statement = update(KEYS).where(KEYS.c.id == key_id, KEYS.c.revoked_at.is_(None)).values(values)
        with self._database.writing() as connection:
            if connection.execute(statement).rowcount == 0:
                raise UnknownKey(key_id)

    def _record_use(self, row: Row[Any], now: float) -> None:
        """Update `last_used_at` in a task of its own, so that the request does not wait."""
        if now - (row.last_used_at or 0.0) >= _LAST_USED_STEP_SECONDS:
            note = asyncio.create_task(self._write_use(row.id, now))
            self._notes.add(note)
            note.add_done_callback(self._notes.discard)

    async def _write_use(self, key_id: str, now: float) -> None:
        statement = update(KEYS).where(KEYS.c.id == key_id).values(last_used_at=now)
        try:
            await self._database.write(lambda connection: connection.execute(statement))
        except StorageFailed as error:
            _log.warning("the last use of key %s cannot be recorded (%s)", key_id, type(error).__name__)


def _good_until(row: Row[Any] | None, given: bytes, now: float) -> float:
    """When the secret `given` becomes invalid; `now` or earlier if it already is. Takes the same time in each case."""
    current, previous = (row.hash, row.previous_hash) if row is not None else (None, None)
    is_current = hmac.compare_digest(given, current or _NO_HASH)
    is_previous = hmac.compare_digest(given, previous or _NO_HASH)
    if row is None or row.revoked_at is not None:
        return 0.0
    if is_current:
        return math.inf
    return row.previous_until if is_previous else 0.0


def _generation(secret_hash: bytes) -> str:
    """A name for a secret. It is public: tokens that callers can read hold it."""
    return sha256(b"generation" + secret_hash).hexdigest()[:16]


def _generation_good_until(row: Row[Any] | None, generation: str) -> float:
    """When the secret of that generation becomes invalid; 0 for an unknown one."""
    if row is None or row.revoked_at is not None:
        return 0.0
    if generation == _generation(row.hash):
        return math.inf
    is_previous = row.previous_hash is not None and generation == _generation(row.previous_hash)
    return row.previous_until if is_previous else 0.0


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= _MAX_NAME_CHARS or not name.isprintable() or not name.strip():
        raise InvalidRequest("name", f"must have 1 to {_MAX_NAME_CHARS} printable characters")


def _new_plaintext(key_id: str) -> str:
    return f"{key_id}:{secrets.token_urlsafe(32)}"


def _hash(plaintext: str) -> bytes:
    return sha256(plaintext.encode()).digest()
