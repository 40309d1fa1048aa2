"""The one thread that owns a model and its state. Everything torch happens on it; asyncio only moves bytes."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from serve_app.errors import GenerationFailed

T = TypeVar("T")
_log = logging.getLogger(__name__)


class OwnerThread:
    """Runs posted calls in order, and `step` between them for as long as it reports that work is left. Before each
    step but the first it rests for `rest_seconds`, unless a call comes: that may have brought work.

    When `step` fails, its state can no longer be trusted: it is not run again, `on_failure` tells those who wait, and
    `check` raises from then on, so that the replica's health check has it replaced.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool] = lambda: False,
        on_failure: Callable[[], None] = lambda: None,
        rest_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._step = step
        self._on_failure = on_failure
        self._rest_seconds = rest_seconds
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, call: Callable[[], None]) -> None:
        """Have the thread run `call`; never blocks."""
        self._calls.put(call)

    async def call(self, function: Callable[[], T]) -> T:
        """Have the thread run `function`, and wait for its result or its exception."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                self.check()
                future.set_result(function())
            except Exception as error:  # noqa: BLE001 not handled here: it is raised where the call is awaited
                future.set_exception(error)

        self.post(run)
        return await asyncio.wrap_future(future)

    def check(self) -> None:
        """Raise GenerationFailed if a step has failed."""
        if self._failed:
            raise GenerationFailed("the model has failed; its replica is being replaced")

    def stop(self) -> None:
        """End the thread after what was posted so far."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        rest_seconds: float | None = None
        while True:
            try:
                call = self._calls.get(timeout=rest_seconds)
            except queue.Empty:
                rest_seconds = self._take_step()
                continue
            if call is None:
                return
            call()
            # A call may have brought work; an idle step is cheap and finds out.
            rest_seconds = None if self._failed else 0

    def _take_step(self) -> float | None:
        """When the next is due, in seconds; None where no work is left."""
        try:
            return self._rest_seconds() if self._step() else None
        except Exception:  # noqa: BLE001 whatever it was, the thread must live on to tell those who wait
            _log.exception("%s: a step failed", self._thread.name)
            self._failed = True
            self._on_failure()
            return None


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
