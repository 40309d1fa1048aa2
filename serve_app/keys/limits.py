"""Limits of a key, over all replicas and all APIs: audio per minute and concurrent requests."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from serve_app.errors import LimitReached, StorageFailed
from serve_app.keys.key import NO_LIMITS, Key
from serve_app.keys.ledger import Hold, cover, renew, settle, take
from serve_app.store.database import Database

_log = logging.getLogger(__name__)

_RENEWED_SECONDS = 10.0


class Taken:
    """The audio of a running request that its key is charged for."""

    def __init__(self, held_seconds: float = 0.0, hold_more: Callable[[float], Awaitable[None]] | None = None) -> None:
        """hold_more: changes the advance charge. None where nothing is charged."""
        self.held_seconds = held_seconds
        """Charged in advance."""
        self.covering: asyncio.Task[None] | None = None
        """The latest change of the advance charge."""
        self._hold_more = hold_more
        self._made_seconds = 0.0
        self._context_seconds = 0.0

    @property
    def audio_seconds(self) -> float:
        return self._made_seconds + self._context_seconds

    def settle(self, audio_seconds: float) -> None:
        """Set the audio made so far. The last value is charged."""
        self._made_seconds = audio_seconds

    async def cover(self, audio_seconds: float) -> None:
        """Charge in advance what was made so far and as much as is now to be made. Raises LimitReached."""
        if self._hold_more is not None:
            # A task of its own, so that a cancelled caller still learns what was charged.
            more = self.audio_seconds + audio_seconds - self.held_seconds
            self.covering = asyncio.create_task(self._cover(self._hold_more, more))
            await asyncio.shield(self.covering)

    async def _cover(self, hold_more: Callable[[float], Awaitable[None]], seconds: float) -> None:
        await hold_more(seconds)
        self.held_seconds += seconds

    def charge_context(self, audio_seconds: float) -> None:
        """Add what the context's decoding and encoding cost, in seconds of audio."""
        self._context_seconds = audio_seconds


class Allowance:
    """Enforces the limits of keys. A key without limits causes no queries; without a database no key has limits."""

    def __init__(self, database: Database | None = None, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._held: set[str] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def take(self, key: Key, audio_seconds: float) -> AsyncGenerator[Taken, None]:
        """Hold a request's place while the block runs. Enter it before the first byte is sent.

        `audio_seconds`: the most that the request may make. Settle what it made. Raises LimitReached.
        """
        database = self._database
        if database is None or key.limits == NO_LIMITS:
            yield Taken()
            return
        hold = Hold(uuid.uuid4().hex, key, audio_seconds)

        async def hold_more(seconds: float) -> None:
            await database.write(lambda connection: cover(connection, hold, seconds, self._clock()))

        taken = Taken(audio_seconds, hold_more)
        taking = self._start(database.write(lambda connection: take(connection, hold, self._clock())))
        try:
            # `taking` is a task of its own, so that a cancelled caller still learns whether the hold was taken.
            await _taken(taking, hold)
            self._renew(hold)
            yield taken
        finally:
            self._held.discard(hold.id)
            await asyncio.shield(self._start(self._give_back(database, taking, hold, taken)))

    async def _give_back(self, database: Database, taking: asyncio.Task[None], hold: Hold, taken: Taken) -> None:
        await asyncio.wait([taking])
        if taking.exception() is not None:
            return  # nothing was taken
        if taken.covering is not None:
            await asyncio.gather(taken.covering, return_exceptions=True)
        hold = replace(hold, audio_seconds=taken.held_seconds)
        try:
            await database.write(lambda connection: settle(connection, hold, taken.audio_seconds, self._clock()))
        except StorageFailed as error:
            _log.warning(
                "a request of key %s cannot be settled (%s): its hold expires", hold.key.id, type(error).__name__
            )

    def _renew(self, hold: Hold) -> None:
        self._held.add(hold.id)
        if self._database is not None and (self._renewing is None or self._renewing.done()):
            self._renewing = self._start(self._keep_renewing(self._database))

    async def _keep_renewing(self, database: Database) -> None:
        while self._held:
            await asyncio.sleep(_RENEWED_SECONDS)
            held = tuple(self._held)
            try:
                await database.write(lambda connection, ids=held: renew(connection, ids, self._clock()))
            except StorageFailed as error:
                _log.warning("the holds of %d requests cannot be renewed (%s)", len(held), type(error).__name__)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _taken(taking: asyncio.Task[None], hold: Hold) -> None:
    try:
        await asyncio.shield(taking)
    except LimitReached as limit:
        _log.info("a request of key %s is refused: %s", hold.key.id, limit)
        raise
