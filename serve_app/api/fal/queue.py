"""`queue.fal.run`: submit a scene, ask for its status, fetch or cancel it. fal has three words for job states."""

import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask

from serve_app.api.auth import key_of, key_still_good
from serve_app.api.fal.errors import (
    IDEMPOTENCY_KEY,
    REQUEST_TIMEOUT,
    USER_TIMEOUT,
    WEBHOOK_FIELD,
    FalRoute,
    answered,
    infra_errors,
    input_errors,
    name_request,
)
from serve_app.api.fal.job_answers import answer_of, error_of
from serve_app.api.fal.preferences import preferences_of
from serve_app.api.fal.scene_reader import SceneReader
from serve_app.api.fal.schema import INPUT_BODY, FalOutput
from serve_app.api.fal.ways import APP, PREFIX, Surface, way_of
from serve_app.api.models import Model
from serve_app.api.places import Places
from serve_app.api.scene_jobs import SceneJobs
from serve_app.api.services import Services
from serve_app.api.streaming import EVENT_STREAM, PING, StreamedAnswer, event
from serve_app.errors import UnknownJob
from serve_app.jobs.job import CancelAnswer, JobState, JobStatus, LogEntry
from serve_app.jobs.status_feed import StatusFeed
from serve_app.keys.key import Key, Scope
from serve_app.settings import Settings

_SUBMIT_ERRORS = input_errors(413, 422) | infra_errors(401, 403, 404, 429, 503)
_ERRORS = infra_errors(401, 403, 404)
_PING_SECONDS = 15.0
_TRUE = ("1", "true")


class CancelStatus(BaseModel):
    status: Literal["OK", "CANCELLATION_REQUESTED", "ALREADY_COMPLETED", "NOT_FOUND"]


class QueueApi:
    """The queue of one model, which fal knows as the application `app`."""

    def __init__(self, model: Model, services: Services, settings: Settings, streams: Places, app: str = APP) -> None:
        """streams: counts the status streams of all models together."""
        self._app = app
        self._reader = SceneReader(model.speech, settings)
        self._services = services
        self._jobs = SceneJobs(model, services.files, settings.jobs)
        self._feed = StatusFeed(services.queue.statuses)
        self._streams = streams

    def router(self) -> APIRouter:
        router = APIRouter(route_class=FalRoute, tags=["fal"])
        add = router.add_api_route
        queue = f"{PREFIX}/{Surface.QUEUE}{self._app}"
        job = f"{queue}/requests/{{request_id}}"
        submit: dict[str, Any] = {"methods": ["POST"], "openapi_extra": INPUT_BODY, "responses": _SUBMIT_ERRORS}
        result: dict[str, Any] = {"methods": ["GET"], "response_model": FalOutput, "responses": _RESULT_ERRORS}
        add(f"{job}/status", self.status, methods=["GET"], responses=_STATUS)
        add(queue, self.submit, **submit)
        add(f"{queue}/{{path:path}}", self.submit, include_in_schema=False, **submit)
        add(f"{job}/status/stream", self.status_stream, methods=["GET"], response_class=Response, responses=_EVENTS)
        add(job, self.result, **result)
        add(f"{job}/response", self.result, include_in_schema=False, **result)
        add(job, self.delete, methods=["DELETE"], status_code=204, responses=_ERRORS | infra_errors(400))
        add(f"{job}/cancel", self.cancel, methods=["PUT"], responses=_CANCEL)
        return router

    async def submit(self, request: Request, fal_webhook: str | None = None) -> Response:
        """Queue a scene. Errors in the input are answered at once, errors of the work come with the result."""
        key = _key_for_speech(request)
        preferences = preferences_of(request.headers)
        if fal_webhook is not None:
            self._services.net.check_url(WEBHOOK_FIELD, fal_webhook)
        queue = self._services.queue
        read = await self._reader.read(request, is_job=True)
        traceparent, start_timeout = request.headers.get("traceparent", ""), preferences.start_timeout_seconds
        new = await self._jobs.new(read, self._app.lstrip("/"), key.id, traceparent, start_timeout)
        job = await queue.submit(
            replace(
                new,
                priority=preferences.priority,
                webhook_url=fal_webhook,
                idempotency_key=request.headers.get(IDEMPOTENCY_KEY),
                max_attempts=None if preferences.retries else 1,
                stores_io=preferences.stores_io,
            )
        )
        await self._jobs.keep_clips([new])
        name_request(request, job.id)
        status = await queue.status(job.id, key.id)
        content = self._content(request, status) | {"status": "IN_QUEUE", "queue_position": status.position or 0}
        # Only after the answer was sent, and not if the client has left: until then an equal submit repeats this one.
        has_left = await request.is_disconnected()
        return JSONResponse(content, background=None if has_left else BackgroundTask(queue.answered, job.id))

    async def status(self, request: Request, request_id: str, logs: str = "0") -> Response:
        """202 while the job waits or runs, 200 once it has ended in any way."""
        after = 0 if logs.lower() in _TRUE else None
        status = await self._services.queue.status(request_id, _key_for_speech(request).id, after)
        return JSONResponse(self._content(request, status), 200 if status.job.state.is_final else 202)

    async def status_stream(self, request: Request, request_id: str, logs: str = "0") -> Response:
        """Server-sent events: the status at each change, with new logs only, until the job has ended."""
        after, key_id = 0 if logs.lower() in _TRUE else None, _key_for_speech(request).id
        async with AsyncExitStack() as held:
            held.enter_context(self._streams.taken(key_id))  # before the database is asked: refusing costs nothing
            first = await self._services.queue.status(request_id, key_id, after)
            return StreamedAnswer(self._changes(request, first, after), EVENT_STREAM, held.pop_all())

    async def _changes(self, request: Request, first: JobStatus, after: int | None) -> AsyncGenerator[str, None]:
        silent_since = time.monotonic()
        async with aclosing(self._feed.follow(first, after)) as statuses:
            async for status in statuses:
                await key_still_good(request)
                if status is not None:
                    yield event(self._content(request, status))
                    silent_since = time.monotonic()
                elif time.monotonic() - silent_since >= _PING_SECONDS:
                    yield PING
                    silent_since = time.monotonic()

    async def result(self, request: Request, request_id: str) -> Response:
        """The output of the job, or the status and body of its error."""
        result = await self._services.queue.result(request_id, _key_for_speech(request).id)
        if result is None:
            return answered({"detail": "Request is still in progress"}, 400)
        status, content = answer_of(result)
        if result.is_success:
            return JSONResponse(content, status)
        timeout = USER_TIMEOUT if content.get("error_type") == REQUEST_TIMEOUT else {}
        return answered(content, status, timeout)

    async def cancel(self, request: Request, request_id: str) -> Response:
        """Remove a waiting job from the queue, or stop a running one."""
        key = _key_for_speech(request)
        try:
            answer = await self._services.queue.cancel(request_id, key.id)
        except UnknownJob:
            return JSONResponse({"status": "NOT_FOUND"}, 404)
        status, word = _CANCELLED[answer]
        return JSONResponse({"status": word}, status)

    async def delete(self, request: Request, request_id: str) -> Response:
        """Delete a job that has ended, with its result and the file of its answer. 400 while it is in progress."""
        key = _key_for_speech(request)
        if not await self._services.queue.delete(request_id, key.id, self._services.files):
            return answered({"detail": "Request is still in progress: cancel it first"}, 400)
        return Response(status_code=204)

    def _content(self, request: Request, status: JobStatus) -> dict[str, Any]:
        job = status.job
        base = way_of(request).url(Surface.QUEUE, f"{self._app}/requests/{job.id}")
        content: dict[str, Any] = {
            "status": _WORDS[job.state],
            "request_id": job.id,
            "gateway_request_id": job.id,
            "response_url": base,
            "status_url": f"{base}/status",
            "cancel_url": f"{base}/cancel",
        }
        if job.state is JobState.QUEUED:
            return content | {"queue_position": status.position or 0}
        content |= {"logs": list(_logs(status.logs)), "metrics": {}}
        if job.inference_seconds is not None:
            content["metrics"] = {"inference_time": job.inference_seconds}
        if job.error is not None:
            content |= error_of(job.error)
        return content


def _key_for_speech(request: Request) -> Key:
    return key_of(request, Scope.SPEECH)


def _logs(entries: Iterable[LogEntry]) -> Iterable[dict[str, str]]:
    for entry in entries:
        at = datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds")
        yield {"message": entry.message, "level": entry.level, "source": "USER", "timestamp": at}


_WORDS = {
    JobState.QUEUED: "IN_QUEUE",
    JobState.RUNNING: "IN_PROGRESS",
    JobState.COMPLETED: "COMPLETED",
    JobState.FAILED: "COMPLETED",
    JobState.CANCELLED: "COMPLETED",
}
_CANCELLED = {
    CancelAnswer.CANCELLED: (200, "OK"),
    CancelAnswer.REQUESTED: (202, "CANCELLATION_REQUESTED"),
    CancelAnswer.ALREADY_COMPLETED: (400, "ALREADY_COMPLETED"),
}
_STATUS: dict[int | str, dict[str, Any]] = {202: {"description": "The job waits or runs."}} | _ERRORS
_EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}} | _ERRORS
_CANCEL: dict[int | str, dict[str, Any]] = infra_errors(401, 403) | {
    status: {"model": CancelStatus} for status in (200, 202, 400, 404)
}
_RESULT_ERRORS: dict[int | str, dict[str, Any]] = (
    _ERRORS | infra_errors(400, 499, 500, 503, 504) | input_errors(413, 422)
)
