"""The thread that owns a model and its state. It runs all torch code, and asyncio only moves bytes."""

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from serve_app.errors import ReplicaLost

T = TypeVar("T")
_log = logging.getLogger(__name__)


class OwnerThread:
    """Runs posted calls in order, and `step` between them while it reports that work is left.

    Before each step but the first it rests for `rest_seconds`. A call ends the rest, because it may bring work.

    When `step` fails, the state can no longer be trusted. The thread does not run it again, `on_failure` ends the
    waiting streams, and `check` raises from then on, so that the replica fails its health check and is replaced.
    `check` treats two other cases alike: a dead thread, and a step or call that takes longer than `stuck_seconds`.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool] = lambda: False,
        on_failure: Callable[[], None] = lambda: None,
        rest_seconds: Callable[[], float] = lambda: 0.0,
        stuck_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step = step
        self._on_failure = on_failure
        self._rest_seconds = rest_seconds
        self._stuck_seconds = stuck_seconds
        self._clock = clock
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._awaited: set[asyncio.Future[Any]] = set()
        self._busy_since: float | None = None
        self._failed = False
        self._cause: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, call: Callable[[], None]) -> None:
        """Have the thread run `call`. Never blocks."""
        self._calls.put(call)

    async def call(self, function: Callable[[], T]) -> T:
        """Have the thread run `function`, and wait for its result or its exception."""
        self.check()
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def run() -> None:
            if outcome.cancelled():
                return
            try:
                self.check()
                result = function()
            except Exception as error:  # noqa: BLE001 raised where the call is awaited
                _settle(outcome, partial(outcome.set_exception, error))
            else:
                _settle(outcome, partial(outcome.set_result, result))

        self._awaited.add(outcome)
        self.post(run)
        try:
            return await outcome
        finally:
            self._awaited.discard(outcome)

    def check(self) -> None:
        """Raises ReplicaLost if a step has failed or does not end, or if the thread is dead."""
        if not self._failed and (reason := self._hangs()):
            _log.error("%s: %s", self._thread.name, reason)
            self._failed = True
            # Called on the checking thread, because this thread does not run any more.
            self._on_failure()
            for outcome in list(self._awaited):
                _settle(outcome, partial(outcome.set_exception, _lost()))
        if self._failed:
            raise _lost() from self._cause

    def stop(self) -> None:
        """End the thread after the calls posted so far."""
        self._calls.put(None)
        self._thread.join()

    def _hangs(self) -> str:
        """Why the thread will not answer. Empty where it is well, or only busy."""
        if not self._thread.is_alive():
            return "the thread is dead"
        busy_since = self._busy_since
        if busy_since is not None and (seconds := self._clock() - busy_since) > self._stuck_seconds:
            return f"a step has not ended in {seconds:.0f} seconds"
        return ""

    def _run(self) -> None:
        rest_seconds: float | None = None
        while True:
            self._busy_since = None
            try:
                call = self._calls.get(timeout=rest_seconds)
            except queue.Empty:
                self._busy_since = self._clock()
                rest_seconds = self._take_step()
                continue
            if call is None:
                return
            self._busy_since = self._clock()
            call()
            # A call may have brought work. An idle step finds out, and is cheap.
            rest_seconds = None if self._failed else 0

    def _take_step(self) -> float | None:
        """In how many seconds the next step is due. None where no work is left."""
        try:
            is_left = self._step()
            return self._rest_seconds() if is_left and not self._failed else None
        except Exception as error:  # noqa: BLE001 the thread must survive any error, to tell the waiting callers
            _log.exception("%s: a step failed", self._thread.name)
            self._failed, self._cause = True, error
            self._on_failure()
            return None


def _lost() -> ReplicaLost:
    return ReplicaLost("the model has failed; its replica is being replaced")


def _settle(outcome: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    """Settle from any thread. The caller may have cancelled or given up meanwhile."""
    loop = outcome.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(lambda: None if outcome.done() else settle())


class Inbox(Generic[T]):
    """Carries messages from the owner thread to one coroutine. An exception put into it is raised there."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[T | Exception] = asyncio.Queue()

    def put(self, message: T | Exception) -> None:
        """Called on the owner thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, message)

    async def get(self) -> T:
        message = await self._queue.get()
        if isinstance(message, Exception):
            raise message
        return message
