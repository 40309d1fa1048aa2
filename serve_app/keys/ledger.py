"""The transactions behind `limits`.

A key owes the audio it used, and the debt falls by the limit each minute. So a whole minute's audio may be used at
once, and no minute sees more than twice the limit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from serve_app.errors import LimitReached
from serve_app.keys.key import Key
from serve_app.keys.tables import HOLDS, KEYS

HELD_SECONDS = 30.0
"""A hold that was not renewed for this long expires, because its process has died."""
_RETRY_SECONDS = 1
"""A guess: it is unknown when one of the key's requests will end."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A running request and the audio that was charged for it in advance."""

    id: str
    key: Key
    audio_seconds: float


def take(connection: Connection, hold: Hold, now: float) -> None:
    """Charge a request to its key. Raises LimitReached if the key is at a limit."""
    limits = hold.key.limits
    owed = _owed(connection, hold.key, now)
    if limits.concurrency and _num_running(connection, hold.key, now) >= limits.concurrency:
        raise LimitReached(
            f"this key may run {limits.concurrency} requests at once: wait until one has ended", _RETRY_SECONDS
        )
    if limits.audio_seconds_per_minute:
        _check_audio(limits.audio_seconds_per_minute, owed, hold.audio_seconds)
    _owe(connection, hold.key, owed + hold.audio_seconds, now)
    connection.execute(insert(HOLDS).values(id=hold.id, key_id=hold.key.id, expires_at=now + HELD_SECONDS))


def cover(connection: Connection, hold: Hold, more_seconds: float, now: float) -> None:
    """Change the advance charge of a running request. Raises LimitReached if the key is at its limit of audio."""
    owed = _owed(connection, hold.key, now)
    if more_seconds > 0 and hold.key.limits.audio_seconds_per_minute:
        _check_audio(hold.key.limits.audio_seconds_per_minute, owed, more_seconds)
    _owe(connection, hold.key, max(0.0, owed + more_seconds), now)


def settle(connection: Connection, hold: Hold, audio_seconds: float, now: float) -> None:
    """End a request that made `audio_seconds`, and correct its charge. An expired hold keeps the advance charge."""
    owed = _owed(connection, hold.key, now)
    if connection.execute(delete(HOLDS).where(HOLDS.c.id == hold.id)).rowcount:
        _owe(connection, hold.key, max(0.0, owed + audio_seconds - hold.audio_seconds), now)


def renew(connection: Connection, hold_ids: Sequence[str], now: float) -> None:
    connection.execute(update(HOLDS).where(HOLDS.c.id.in_(hold_ids)).values(expires_at=now + HELD_SECONDS))


def _check_audio(limit: float, owed: float, audio_seconds: float) -> None:
    # A request above the limit itself needs the whole limit, and leaves the key in debt.
    excess = owed + min(audio_seconds, limit) - limit
    if excess > 0:
        wait_seconds = math.ceil(excess / limit * 60)
        raise LimitReached(
            f"this key may use {limit:g} seconds of audio a minute: try again in {wait_seconds} s", wait_seconds
        )


def _owed(connection: Connection, key: Key, now: float) -> float:
    """Audio seconds that the key owes now. Locks the key's row, so that its requests take turns."""
    owed = select(KEYS.c.audio_owed, KEYS.c.audio_owed_at).where(KEYS.c.id == key.id).with_for_update()
    seconds, since = connection.execute(owed).one()
    return max(0.0, seconds - max(0.0, now - since) * key.limits.audio_seconds_per_minute / 60)


def _owe(connection: Connection, key: Key, audio_seconds: float, now: float) -> None:
    if key.limits.audio_seconds_per_minute:
        values = {"audio_owed": audio_seconds, "audio_owed_at": now}
        connection.execute(update(KEYS).where(KEYS.c.id == key.id).values(values))


def _num_running(connection: Connection, key: Key, now: float) -> int:
    connection.execute(delete(HOLDS).where(HOLDS.c.key_id == key.id, HOLDS.c.expires_at <= now))
    return connection.execute(select(func.count()).where(HOLDS.c.key_id == key.id)).scalar_one()
