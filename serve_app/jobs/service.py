"""All that a process does for jobs: runs them, delivers their webhooks, forgets the old ones."""

import asyncio

from serve_app import metrics
from serve_app.jobs.outbox import Outbox, WebhookState
from serve_app.jobs.periodic import repeat
from serve_app.jobs.queue import Files, JobQueue
from serve_app.jobs.runner import JobRunner
from serve_app.jobs.sender import WebhookSender
from serve_app.metrics import NO_METER, Meter

_COUNT_SECONDS = 5.0
_SWEEP_SECONDS = 60.0


class JobService:
    """Any number of processes may run one on the same database."""

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
        """Until cancelled; raises what is a bug."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._runner.run())
            group.create_task(self._sender.run())
            group.create_task(repeat("counting webhooks", self._count, _COUNT_SECONDS))
            group.create_task(repeat("sweeping jobs", self._sweep, _SWEEP_SECONDS))

    async def stop(self) -> None:
        """Give the running jobs back."""
        await self._runner.stop()

    async def _count(self) -> bool:
        counts = await self._outbox.counts()
        self._meter.set(metrics.WEBHOOKS_PENDING, counts[WebhookState.PENDING])
        self._meter.set(metrics.WEBHOOKS_DEAD, counts[WebhookState.DEAD])
        return False

    async def _sweep(self) -> bool:
        await self._queue.sweep(self._files)
        await self._outbox.sweep()
        return False
