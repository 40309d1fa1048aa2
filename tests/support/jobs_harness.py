"""A job queue on its own database, under a clock that the test turns."""

import json
from dataclasses import dataclass, field
from typing import Any

from serve_app.errors import GenerationFailed
from serve_app.jobs.job import JobResult, LeasedJob, NewJob
from serve_app.jobs.queue import JobQueue
from serve_app.jobs.transitions import JobLeases
from serve_app.jobs.webhook_turns import WebhookTurns
from serve_app.jobs.webhooks import Outbox, Webhook
from serve_app.settings import JobSettings, WebhookSettings
from serve_app.store.database import Database

KEY = "key-1"
HOOK = "https://example.com/hook"
DONE = JobResult({"audio": {"url": "http://here/files/a/speech.wav"}}, inference_seconds=1.5)
ENGINE_BROKE = GenerationFailed("the engine broke")
BROKEN = JobResult.failed(ENGINE_BROKE)


class PlainWebhookFormat:
    """The outcome as JSON, and headers that differ between deliveries."""

    def body(self, job_id: str, result: JobResult) -> str:
        return json.dumps({"id": job_id, "output": result.output, "error": result.error and str(result.error)})

    def headers(self, request_id: str, user_id: str, body: bytes, now: float) -> dict[str, str]:
        return {"X-Job": request_id, "X-Key": user_id, "X-Length": str(len(body)), "X-Time": str(now)}


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def new_job(text: str = "hello", **more: Any) -> NewJob:
    return NewJob(**({"endpoint": "csm-1b", "key_id": KEY, "input": {"text": text}} | more))


@dataclass
class Harness:
    database: Database
    clock: Clock
    settings: JobSettings = field(default_factory=JobSettings)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)

    def with_settings(self, **changes: Any) -> "Harness":
        return Harness(self.database, self.clock, self.settings.model_copy(update=changes), self.webhooks)

    @property
    def queue(self) -> JobQueue:
        return JobQueue(self.database, self.settings, PlainWebhookFormat(), self.clock)

    @property
    def leases(self) -> JobLeases:
        return JobLeases(self.database, self.settings, PlainWebhookFormat(), self.clock)

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.database, self.webhooks, self.clock)

    async def webhooks_due(self, room: int) -> list[Webhook]:
        """For a sender that has room for so many."""
        return await self.outbox.take(WebhookTurns(self.webhooks.model_copy(update={"max_running": room})))

    async def submitted(self, text: str = "hello", **more: Any) -> str:
        """The id of a job whose caller knows it."""
        job = await self.queue.submit(new_job(text, **more))
        await self.queue.answered(job.id)
        return job.id

    async def leased(self, owner: str = "runner-1") -> LeasedJob:
        leased = await self.leases.lease(owner)
        assert leased is not None, "a job waits"
        return leased
