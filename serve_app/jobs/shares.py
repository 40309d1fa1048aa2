"""Whose job is next: keys share the runners by the audio that their jobs may make (start-time fair queueing).

The rule is that of `serve_app/shares.py`, for queues of one process: here both numbers are in the database. So the jobs
of a key that submits a thousand stand behind each other, and a key that submits one is next but for those that run.
Each application has runners and a queue of its own, so a key has a share of each.
"""

from sqlalchemy import Connection, func, insert, select, update

from serve_app.jobs.tables import SHARES
from serve_app.shares import place_in_line
from serve_app.store.database import lock_name

_SHARING = 7_210_034
"""PostgreSQL advisory lock, one for each row."""
_QUEUE = ""
"""No key has this id. Its row holds the turn of the job that was leased last."""


def next_turn(connection: Connection, application: str, key_id: str, cost_seconds: float) -> float:
    """The turn of a new job. Its key's next one comes `cost_seconds` later."""
    share = _share(application, key_id)
    lock_name(connection, _SHARING, share)
    used = connection.scalar(select(SHARES.c.used).where(SHARES.c.key_id == share))
    # Jobs for any runner may be in the same queue: an older release stored no application.
    queues = {_share(application, _QUEUE), _share("", _QUEUE)}
    now = connection.scalar(select(func.max(SHARES.c.used)).where(SHARES.c.key_id.in_(queues))) or 0.0
    turn = place_in_line(used or 0.0, now)
    _set(connection, share, turn + cost_seconds, is_new=used is None)
    return turn


def note_leased(connection: Connection, application: str, turn: float) -> None:
    """Record how far the queue is."""
    share = _share(application, _QUEUE)
    lock_name(connection, _SHARING, share)
    used = connection.scalar(select(SHARES.c.used).where(SHARES.c.key_id == share))
    if used is None or used < turn:
        _set(connection, share, turn, is_new=used is None)


def _share(application: str, key_id: str) -> str:
    return f"{application}/{key_id}" if application else key_id


def _set(connection: Connection, share: str, used: float, is_new: bool) -> None:
    if is_new:
        connection.execute(insert(SHARES).values(key_id=share, used=used))
    else:
        connection.execute(update(SHARES).where(SHARES.c.key_id == share).values(used=used))
