"""Everything that one process does for jobs: runs them, delivers their webhooks, deletes old ones."""

import asyncio

from serve_app import metrics
from serve_app.jobs.periodic import repeat
from serve_app.jobs.queue import Files, JobQueue
from serve_app.jobs.runner import JobRunner
from serve_app.jobs.webhooks import Outbox, WebhookSender, WebhookState
from serve_app.metrics import NO_METER, Meter

_COUNT_SECONDS = 5.0
_SWEEP_SECONDS = 60.0


class JobService:
    """Several processes may run one on the same database."""

    def __init__(
        self,
        queue: JobQueue,
        outbox: Outbox,
        runner: JobRunner,
        sender: WebhookSender,
        files: Files,
        meter: Meter = NO_METER,
    ) -> None:
        self._queue = queue
        self._outbox = outbox
        self._runner = runner
        self._sender = sender
        self._files = files
        self._meter = meter

    async def run(self) -> None:
        """Run until cancelled. Raises an ExceptionGroup if a loop fails with an unexpected error."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._runner.run())
            group.create_task(self._sender.run())
            group.create_task(repeat("counting webhooks", self._count, _COUNT_SECONDS))
            group.create_task(repeat("sweeping jobs", self._sweep, _SWEEP_SECONDS))

    async def stop(self, drain_seconds: float = 0.0) -> None:
        """Let running jobs end for so long, then return them to the queue."""
        await self._runner.stop(drain_seconds)

    async def _count(self) -> bool:
        counts = await self._outbox.counts()
        self._meter.set(metrics.WEBHOOKS_PENDING, counts[WebhookState.PENDING])
        self._meter.set(metrics.WEBHOOKS_DEAD, counts[WebhookState.DEAD])
        return False

    async def _sweep(self) -> bool:
        await self._queue.sweep(self._files)
        await self._outbox.sweep()
        return False
