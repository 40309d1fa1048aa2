"""Creates keys, and tells good ones from others: `Keys` is for administrators, `check` and `find` for each request."""

import asyncio
import hmac
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
_MOST_NAME_CHARS = 100
_USE_NOTED_SECONDS = 60.0
"""`last_used_at` is as old as this, at most: a write a request would cost more than the check."""
_NO_HASH = bytes(32)
"""Nothing hashes to it. Compared with where there is no hash, so that it takes as long as where there is one."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key and its history, for those who administer keys. Times in unix seconds."""

    key: Key
    created_at: float
    last_used_at: float | None
    revoked_at: float | None
    previous_until: float | None
    """When the secret before the last rotation ends to count."""


class Keys:
    """A secret is 256 random bits, so one round of SHA-256 hides it: there is nothing to guess from."""

    def __init__(self, database: Database, settings: KeySettings, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        # By the hash of id and secret, or by the id alone: each with when to ask again. Good ones only.
        self._cached: dict[bytes | str, tuple[float, Key]] = {}
        self._notes: set[asyncio.Task[None]] = set()

    def create(
        self,
        name: str,
        scopes: Iterable[Scope] = USUAL_SCOPES,
        audio_seconds_per_minute: float | None = None,
        concurrency: int | None = None,
    ) -> tuple[Key, str]:
        """The new key and `id:secret`, which nobody can read again. None takes the server's default limit.

        Raises InvalidRequest for a name that cannot be shown or a limit below 0.
        """
        _check_name(name)
        for field, limit in (("audio_seconds_per_minute", audio_seconds_per_minute), ("concurrency", concurrency)):
            if limit is not None and not 0 <= limit < float("inf"):
                raise InvalidRequest(field, "must be 0 or more; 0 is no limit")
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
        """All that ever were, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(KEYS).order_by(KEYS.c.created_at, KEYS.c.id)).all()
        return [
            KeyRecord(self._key(row), row.created_at, row.last_used_at, row.revoked_at, row.previous_until)
            for row in rows
        ]

    def revoke(self, key_id: str) -> None:
        """For good, on each replica within `keys.cached_seconds`. What runs already ends. Raises UnknownKey."""
        self._change(key_id, revoked_at=self._clock())

    def rotate(self, key_id: str, grace_seconds: float) -> str:
        """`id:secret` with a new secret; the one before counts for so long yet. Raises UnknownKey."""
        plaintext = _new_plaintext(key_id)
        self._change(
            key_id, previous_hash=KEYS.c.hash, previous_until=self._clock() + grace_seconds, hash=_hash(plaintext)
        )
        return plaintext

    async def check(self, plaintext: str) -> Key:
        """The key behind `id:secret`. Raises Unauthorized, in the same words after the same work, whatever is wrong."""
        form = _FORM.fullmatch(plaintext)
        if form is None:
            raise Unauthorized("this is no key: send the whole of it, ID:SECRET, as csm-serve keys create showed it")
        given = _hash(plaintext)
        return self._remembered(given) or await self._checked(form[1], given)

    async def find(self, key_id: str) -> Key:
        """The key of that id, for work that was asked for with it before. Raises Unauthorized where it was revoked."""
        if (key := self._remembered(key_id)) is not None:
            return key
        row = await self._row(key_id)
        if row is None or row.revoked_at is not None:
            raise Unauthorized("the key that this was asked for with is not known, or was revoked")
        return self._remember(key_id, self._key(row), self._clock() + self._settings.cached_seconds)

    async def _checked(self, key_id: str, given: bytes) -> Key:
        # An unknown id and a wrong secret both come here, since only good keys are cached.
        row, now = await self._row(key_id), self._clock()
        good_until = _good_until(row, given, now)
        if row is None or good_until <= now:
            self._cached.pop(given, None)
            raise Unauthorized("this key is not known, is not the current one, or was revoked")
        self._note_use(row, now)
        return self._remember(given, self._key(row), min(good_until, now + self._settings.cached_seconds))

    def _remembered(self, by: bytes | str) -> Key | None:
        until, key = self._cached.get(by, (0.0, None))
        return key if self._clock() < until else None

    def _remember(self, by: bytes | str, key: Key, until: float) -> Key:
        self._cached[by] = (until, key)
        return key

    async def _row(self, key_id: str) -> Row[Any] | None:
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

    def _note_use(self, row: Row[Any], now: float) -> None:
        """Aside: the request does not wait for it."""
        if now - (row.last_used_at or 0.0) >= _USE_NOTED_SECONDS:
            note = asyncio.create_task(self._write_use(row.id, now))
            self._notes.add(note)
            note.add_done_callback(self._notes.discard)

    async def _write_use(self, key_id: str, now: float) -> None:
        statement = update(KEYS).where(KEYS.c.id == key_id).values(last_used_at=now)
        try:
            await self._database.write(lambda connection: connection.execute(statement))
        except StorageFailed as error:
            _log.warning("the last use of key %s cannot be noted (%s)", key_id, type(error).__name__)


def _good_until(row: Row[Any] | None, given: bytes, now: float) -> float:
    """As far as is known now; `now` or earlier where it is not good. Compares in the same time, whatever is wrong."""
    current, previous = (row.hash, row.previous_hash) if row is not None else (None, None)
    is_current = hmac.compare_digest(given, current or _NO_HASH)
    is_previous = hmac.compare_digest(given, previous or _NO_HASH)
    if row is None or row.revoked_at is not None:
        return 0.0
    if is_current:
        return math.inf
    return row.previous_until if is_previous else 0.0


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= _MOST_NAME_CHARS or not name.isprintable() or not name.strip():
        raise InvalidRequest("name", f"must be 1 to {_MOST_NAME_CHARS} characters that can be shown")


def _new_plaintext(key_id: str) -> str:
    return f"{key_id}:{secrets.token_urlsafe(32)}"


def _hash(plaintext: str) -> bytes:
    return sha256(plaintext.encode()).digest()
