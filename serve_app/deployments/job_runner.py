"""Deployment: runs queued jobs, delivers their webhooks, forgets what is old. It is called by nobody: it takes its work
from the database."""

import asyncio
import logging
import uuid

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app.api.fal.job_work import FalJobWork
from serve_app.deployments import replica_log
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.scaling.backlog import BACKLOG, ROOM
from serve_app.deployments.services import open_services
from serve_app.deployments.speech import speech_pipeline
from serve_app.errors import StorageFailed
from serve_app.jobs.outbox import Outbox
from serve_app.jobs.periodic import repeat
from serve_app.jobs.runner import JobRunner as Runner
from serve_app.jobs.sender import WebhookSender
from serve_app.jobs.service import JobService
from serve_app.jobs.webhook import WebhookSigner
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.net.guarded import GuardedClient
from serve_app.settings import Settings
from serve_app.speech.watch import Watcher
from serve_app.store.database import Database
from serve_app.store.secrets import Secrets
from serve_app.tracing import open_tracer

_log = logging.getLogger(__name__)


class JobRunner:
    async def __init__(self, encoder: DeploymentHandle, decoder: DeploymentHandle, settings: Settings) -> None:
        replica_log.set_up(settings)
        meter = RayMeter()
        replica = serve.get_replica_context().replica_id.unique_id
        watcher = Watcher(meter, open_tracer(settings.tracing, "JobRunner", replica))
        database = Database.open(settings.database_url)
        services = open_services(
            settings, database, speech_pipeline(encoder, decoder, settings, meter, watcher), Allowance(database)
        )
        work = FalJobWork(services.speech, Keys(database, settings.keys) if settings.keys.required else None)
        outbox = Outbox(database, settings.webhooks)
        signer = WebhookSigner.open(Secrets(database))
        self._settings = settings
        self._queue = services.queue
        self._files = services.files
        self._service = JobService(
            services.queue,
            outbox,
            Runner(services.queue, work, settings.jobs, f"{replica}-{uuid.uuid4().hex}", meter),
            WebhookSender(outbox, GuardedClient(settings.net), signer, settings.webhooks, meter),
            services.files,
            meter,
        )
        self._running = asyncio.gather(
            self._service.run(), repeat("sweeping files", self._sweep_files, settings.files.sweep_seconds)
        )

    async def _sweep_files(self) -> bool:
        try:
            await self._files.sweep()
        except StorageFailed as error:
            _log.warning("files cannot be swept now: %s", error)
        return False

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For `backlog_policy.BacklogPolicy`."""
        backlog = await self._queue.backlog()
        return {BACKLOG: float(backlog.queued + backlog.running), ROOM: float(self._settings.jobs.max_running)}

    async def check_health(self) -> None:
        """Raises what ended the work of this replica: it is replaced, and its jobs are taken over."""
        if self._running.done():
            self._running.result()

    async def __del__(self) -> None:
        """Called by Serve before it ends the process: jobs are given back, and another replica takes them at once."""
        await self._service.stop()
        self._running.cancel()
