"""Deployment that runs queued jobs, delivers their webhooks, and deletes old jobs and files.

No other deployment calls it: it takes its work from the database.
"""

import asyncio
import logging
import uuid

from ray.serve.handle import DeploymentHandle

from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.replica import set_up_replica
from serve_app.deployments.scaling.backlog import BACKLOG, ROOM
from serve_app.deployments.services import job_work, open_services, speech_pipeline
from serve_app.deployments.spare import keep_spare
from serve_app.errors import StorageFailed
from serve_app.jobs.periodic import repeat
from serve_app.jobs.runner import JobRunner
from serve_app.jobs.service import JobService
from serve_app.jobs.transitions import JobLeases
from serve_app.jobs.webhooks import Outbox, WebhookSender
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.net.guarded import GuardedClient
from serve_app.settings import Settings
from serve_app.speech.watch import Watcher
from serve_app.store.database import Database
from serve_app.tracing import open_tracer

_log = logging.getLogger(__name__)


class JobRunnerDeployment:
    async def __init__(self, encoder: DeploymentHandle, decoder: DeploymentHandle, settings: Settings) -> None:
        identity = set_up_replica(settings)
        meter = RayMeter()
        watcher = Watcher(meter, open_tracer(settings.tracing, identity.deployment, identity.id))
        database = Database.open(settings.database_url, settings.database.connections)
        services = open_services(
            settings, database, speech_pipeline(encoder, decoder, settings, meter, watcher), Allowance(database)
        )
        keys = Keys(database, settings.keys) if settings.keys.required else None
        work = job_work(services, keys, settings.jobs)
        outbox = Outbox(database, settings.shared_webhooks)
        self._settings = settings
        ours = identity.application
        self._leases = JobLeases(database, settings.jobs, services.webhook_format, application=ours)
        self._files = services.files
        self._records = services.speech.records
        self._conversations = services.talk.conversations
        net = GuardedClient(settings.net)
        self._service = JobService(
            services.queue,
            outbox,
            JobRunner(self._leases, work, settings.jobs, f"{identity.id}-{uuid.uuid4().hex}", meter),
            WebhookSender(outbox, net, services.webhook_format, settings.shared_webhooks, meter),
            services.files,
            meter,
        )
        self._spare = keep_spare() if settings.failover.spare_process else None
        self._running = asyncio.gather(
            self._service.run(), repeat("sweeping", self._sweep, settings.files.sweep_seconds)
        )

    async def _sweep(self) -> bool:
        try:
            await self._files.sweep()
            if self._records is not None:
                await self._records.sweep()
            await self._conversations.sweep()
        except StorageFailed as error:
            _log.warning("what has expired cannot be deleted now: %s", error)
        return False

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For `runners_for_backlog`. Called by Serve."""
        backlog = await self._leases.backlog()
        return {BACKLOG: float(backlog.queued + backlog.running), ROOM: float(self._settings.jobs.max_running)}

    async def check_health(self) -> None:
        """Raises the error that ended this replica's loops. Serve then replaces it, and its jobs are leased again."""
        if self._running.done():
            self._running.result()

    async def __del__(self) -> None:
        """Serve calls this before it ends the process. Jobs that do not end soon return to the queue for another
        replica."""
        await self._service.stop(self._settings.jobs.drain_seconds)
        self._running.cancel()
