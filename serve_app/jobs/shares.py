"""Whose job is next: keys share the runners by the audio that their jobs may make (start-time fair queueing).

The rule is that of `serve_app/shares.py`, for queues of one process: here both numbers are in the database. So the jobs
of a key that submits a thousand stand behind each other, and a key that submits one is next but for those that run.
"""

from sqlalchemy import Connection, insert, select, update

from serve_app.jobs.tables import SHARES
from serve_app.shares import place_in_line
from serve_app.store.database import lock_name

_SHARING = 7_210_034
"""PostgreSQL advisory lock, one for each row."""
_QUEUE = ""
"""No key has this id. Its row holds the turn of the job that was leased last."""


def next_turn(connection: Connection, key_id: str, cost_seconds: float) -> float:
    """The turn of a new job. Its key's next one comes `cost_seconds` later."""
    lock_name(connection, _SHARING, key_id)
    used = connection.scalar(select(SHARES.c.used).where(SHARES.c.key_id == key_id))
    now = connection.scalar(select(SHARES.c.used).where(SHARES.c.key_id == _QUEUE)) or 0.0
    turn = place_in_line(used or 0.0, now)
    _set(connection, key_id, turn + cost_seconds, is_new=used is None)
    return turn


def note_leased(connection: Connection, turn: float) -> None:
    """Record how far the queue is."""
    lock_name(connection, _SHARING, _QUEUE)
    used = connection.scalar(select(SHARES.c.used).where(SHARES.c.key_id == _QUEUE))
    if used is None or used < turn:
        _set(connection, _QUEUE, turn, is_new=used is None)


def _set(connection: Connection, key_id: str, used: float, is_new: bool) -> None:
    if is_new:
        connection.execute(insert(SHARES).values(key_id=key_id, used=used))
    else:
        connection.execute(update(SHARES).where(SHARES.c.key_id == key_id).values(used=used))
