"""The jobs of a key, in the native dialect: `GET /jobs` and what can be done with one of them."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from serve_app.api.auth import key_of
from serve_app.api.error_responses import documented
from serve_app.api.scene_jobs import SceneJobs
from serve_app.jobs.job import JobResult, JobState, JobStatus
from serve_app.jobs.queue import JobQueue
from serve_app.keys.key import Scope
from serve_app.speech.scene import Scene

_MOST_LISTED = 1000


class JobLine(BaseModel):
    at: float
    level: str
    message: str


class JobBody(BaseModel):
    """A job. Times are unix seconds. `audio_url`, `audio_seconds` and `seed` stand in one that is completed."""

    id: str
    state: JobState
    priority: str
    application: str | None = None
    """Whose model it is for, where a cluster serves several."""
    position: int | None = None
    """Jobs ahead of a queued one."""
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    attempt: int
    error: str | None = None
    error_kind: str | None = None
    audio_url: str | None = None
    audio_seconds: float | None = None
    seed: int | None = None
    quality: dict[str, Any] | None = None
    """Scores of the takes, where `quality` asked for several."""
    logs: list[JobLine] = []


class JobList(BaseModel):
    jobs: list[JobBody]


class JobsApi:
    def __init__(self, queue: JobQueue, jobs: SceneJobs) -> None:
        self._queue = queue
        self._jobs = jobs

    def router(self) -> APIRouter:
        router = APIRouter(tags=["jobs"])
        known: dict[str, Any] = {"response_model_exclude_none": True, "responses": documented(401, 403, 404)}
        router.add_api_route("/jobs", self.list, methods=["GET"], response_model=JobList, **known)
        router.add_api_route("/jobs/{job_id}", self.show, methods=["GET"], response_model=JobBody, **known)
        router.add_api_route("/jobs/{job_id}/cancel", self.cancel, methods=["POST"], response_model=JobBody, **known)
        known["responses"] = documented(401, 403, 404, 409, 429)
        router.add_api_route("/jobs/{job_id}/retry", self.retry, methods=["POST"], response_model=JobBody, **known)
        return router

    async def list(self, request: Request, limit: int = Query(100, ge=1, le=_MOST_LISTED)) -> JobList:
        """The jobs of this key, newest first, without results and logs."""
        recent = await self._queue.recent(key_of(request, Scope.SPEECH).id, limit)
        return JobList(jobs=[_body(status, None) for status in recent])

    async def show(self, request: Request, job_id: str) -> JobBody:
        """A job with its log, and its result once it has ended."""
        return await self._shown(job_id, key_of(request, Scope.SPEECH).id)

    async def cancel(self, request: Request, job_id: str, response: Response) -> JobBody:
        """Take a job from the queue, or stop a running one; then the answer is 202. An ended job stays as it is."""
        key_id = key_of(request, Scope.SPEECH).id
        await self._queue.cancel(job_id, key_id)
        body = await self._shown(job_id, key_id)
        response.status_code = 200 if body.state.is_final else 202
        return body

    async def retry(self, request: Request, job_id: str) -> JobBody:
        """A new job that does what a failed one was to do. Its input is kept for `jobs.retryable_seconds`."""
        key_id = key_of(request, Scope.SPEECH).id
        new = await self._queue.again(job_id, key_id)
        job = await self._queue.submit(replace(new, cost_seconds=Scene.from_json(new.input).longest_seconds))
        await self._jobs.keep_clips([new])
        await self._queue.answered(job.id)
        return await self._shown(job.id, key_id)

    async def _shown(self, job_id: str, key_id: str) -> JobBody:
        status = await self._queue.status(job_id, key_id, logs_after=0)
        return _body(status, await self._queue.result(job_id, key_id))


def _body(status: JobStatus, result: JobResult | None) -> JobBody:
    job = status.job
    spoken = (result.output or {}) if result is not None and result.is_success else {}
    return JobBody(
        id=job.id,
        state=job.state,
        priority=job.priority,
        application=job.application or None,
        position=status.position,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        attempt=job.attempt,
        error=str(job.error) if job.error else None,
        error_kind=job.error.kind if job.error else None,
        audio_url=spoken.get("audio", {}).get("url"),
        audio_seconds=spoken.get("audio_seconds"),
        seed=spoken.get("seed"),
        quality=spoken.get("quality"),
        logs=[JobLine(at=line.at, level=line.level, message=line.message) for line in status.logs],
    )
