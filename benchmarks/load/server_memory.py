"""The resident memory of a server's process and all its children, over the time of a run."""

import asyncio
import importlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

_EVERY_SECONDS = 1.0


class NoSuchProcess(ValueError):
    """The process that was to be watched is not there."""


class MemoryWatch:
    """Pages that processes share count for each of them, so the sum is somewhat more than the machine gave."""

    def __init__(self, pid: int | None) -> None:
        self.samples: list[tuple[float, float]] = []
        """Seconds into the run, MB."""
        self._psutil = _psutil() if pid is not None else None
        if self._psutil and not self._psutil.pid_exists(pid):
            raise NoSuchProcess(f"no process has the id {pid}")
        self._pid = pid

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._sample(time.perf_counter()))
        try:
            yield
        finally:
            task.cancel()

    async def _sample(self, began: float) -> None:
        while self._psutil:
            # In a thread, since reading many processes takes milliseconds.
            total = await asyncio.to_thread(self._resident_bytes, self._psutil)
            if total:
                self.samples.append((round(time.perf_counter() - began, 2), round(total / 1e6, 1)))
            await asyncio.sleep(_EVERY_SECONDS)

    def _resident_bytes(self, psutil: Any) -> int:
        """0 once it has ended."""
        try:
            server = psutil.Process(self._pid)
            tree = [server, *server.children(recursive=True)]
        except psutil.Error:
            return 0
        return sum(self._of(process, psutil) for process in tree)

    def _of(self, process: Any, psutil: Any) -> int:
        try:
            return process.memory_info().rss
        except psutil.Error:
            return 0


def _psutil() -> Any:
    """Ray carries a copy, which can be imported once Ray has been."""
    try:
        return importlib.import_module("psutil")
    except ModuleNotFoundError:
        importlib.import_module("ray")
        return importlib.import_module("psutil")
