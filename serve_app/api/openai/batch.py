"""`POST /v1/audio/speech/batch`: many texts, each a job of its own, under one id."""

import asyncio
import re
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from serve_app.api.auth import key_of
from serve_app.api.fal.ways import Surface, Way
from serve_app.api.models import Model
from serve_app.api.openai.batch_answers import answer_of, with_audio
from serve_app.api.openai.batch_schema import BATCH_BODY, BatchAnswer, BatchDeleted, asked_of, at_item, parse_batch
from serve_app.api.openai.errors import PREFIX, documented
from serve_app.api.openai.schema import SpeechBody
from serve_app.api.openai.speech import named
from serve_app.api.origin import origin_of
from serve_app.api.places import Places
from serve_app.api.scene_jobs import SceneJobs
from serve_app.api.services import Services
from serve_app.api.streaming import disconnect, while_connected
from serve_app.errors import Conflict, InvalidRequest, UnknownBatch, UnknownJob
from serve_app.jobs.batches import BatchItem
from serve_app.jobs.job import JobStatus
from serve_app.jobs.status_feed import StatusFeed
from serve_app.keys.key import Key, Scope
from serve_app.settings import Settings
from serve_app.speech.scene import Scene

_BATCHES = f"{PREFIX}/audio/speech/batch"
_BATCH = f"{_BATCHES}/{{batch_id}}"
_ENDPOINT = "audio/speech/batch"
_LONGEST_WAIT_SECONDS = 600.0
_WAIT = re.compile(r"\bwait\s*=\s*(\d{1,6})", re.ASCII)
_ID = re.compile(r"[\da-f-]{36}", re.ASCII)


class OpenAiBatches:
    def __init__(self, services: Services, settings: Settings) -> None:
        limits = settings.limits
        self._services = services
        self._settings = settings
        self._feed = StatusFeed(services.queue.statuses)
        self._waiting = Places("batches that are waited for", limits.max_downloads, limits.max_downloads_per_key)

    def router(self) -> APIRouter:
        """To be included before the route of outcomes, whose ids may hold slashes."""
        router = APIRouter(tags=["openai"])
        add = router.add_api_route
        answer: dict[str, Any] = {"response_model": BatchAnswer, "response_model_exclude_none": True}
        found = documented(401, 403, 404, 422, 503)
        add(_BATCHES, self.create, methods=["POST"], openapi_extra=BATCH_BODY, responses=_CREATED, response_model=None)
        add(_BATCH, self.show, methods=["GET"], responses=found, **answer)
        add(f"{_BATCH}/cancel", self.cancel, methods=["POST"], responses=found, **answer)
        add(_BATCH, self.delete, methods=["DELETE"], responses=found | documented(409), response_model=BatchDeleted)
        return router

    async def create(self, request: Request) -> JSONResponse:
        """Speak each item. 200 with all audio, or 202 if `Prefer: respond-async` or `wait=SECONDS` asks for it."""
        key = key_of(request, Scope.SPEECH)
        wait_seconds = _wait_seconds(request.headers.getlist("prefer"))
        with self._waiting.taken(key.id):
            bodies = parse_batch(await request.body(), self._settings.limits)
            cdn = Way.by_prefix(origin_of(request.scope, self._settings.public_url)).url(Surface.CDN, "")
            traceparent = request.headers.get("traceparent", "")
            # All are checked before the first is kept.
            scenes = [await self._scene(index, body, key, cdn) for index, body in enumerate(bodies)]
            jobs = [await self._jobs(model).new(scene, _ENDPOINT, key.id, traceparent) for model, scene in scenes]
            batch_id = await self._services.batches.submit(jobs, key.id, request.headers.get("idempotency-key") or None)
            await self._jobs(self._services.models.own).keep_clips(jobs)
            # The jobs go on if the client leaves.
            async with while_connected(partial(disconnect, request.receive)):
                await self._wait(batch_id, key, wait_seconds)
                answer = answer_of(batch_id, await self._services.batches.items(batch_id, key.id))
                if answer.status == "completed":
                    answer = await with_audio(answer, self._services.files)
        status = 200 if answer.status == "completed" else 202
        headers = {"Location": f"{origin_of(request.scope, self._settings.public_url)}{_BATCHES}/{batch_id}"}
        return JSONResponse(answer.model_dump(exclude_none=True), status, headers)

    async def show(self, request: Request, batch_id: str) -> BatchAnswer:
        """Where each item is, and what it became."""
        return answer_of(batch_id, await self._items(request, batch_id))

    async def cancel(self, request: Request, batch_id: str) -> BatchAnswer:
        """Take the items that wait from the queue, and stop those that are being spoken. Ended ones stay."""
        for item in await self._items(request, batch_id):
            with suppress(UnknownJob):  # it was deleted meanwhile
                await self._services.queue.cancel(item.job.id, item.job.key_id)
        return answer_of(batch_id, await self._items(request, batch_id))

    async def delete(self, request: Request, batch_id: str) -> BatchDeleted:
        """Forget a batch whose items have all ended, with their audio. 409 before that."""
        items = await self._items(request, batch_id)
        if not all(item.job.state.is_final for item in items):
            raise Conflict(f"batch {batch_id} has items that have not ended: cancel it first, or try again later")
        for item in items:
            with suppress(UnknownJob):
                await self._services.queue.delete(item.job.id, item.job.key_id, self._services.files)
        return BatchDeleted(id=batch_id)

    async def _items(self, request: Request, batch_id: str) -> list[BatchItem]:
        if not _ID.fullmatch(batch_id):
            raise UnknownBatch(batch_id[:40])
        return await self._services.batches.items(batch_id, key_of(request, Scope.SPEECH).id)

    def _jobs(self, model: Model) -> SceneJobs:
        return SceneJobs(model, self._services.files, self._settings.jobs)

    async def _scene(self, index: int, body: SpeechBody, key: Key, cdn: str) -> tuple[Model, Scene]:
        await asyncio.sleep(0)  # short texts are prepared on the event loop, and a batch may have many
        try:
            model = await named(self._services.models, body)
            kept = await model.speech.kept_voice(body.voice, key)
            scene = await model.speech.scene(asked_of(body, kept.id if kept else None, cdn), self._settings, key)
            return model, await model.speech.context.locate(scene, cdn)
        except InvalidRequest as error:
            raise at_item(index, error) from None

    async def _wait(self, batch_id: str, key: Key, seconds: float) -> None:
        with suppress(TimeoutError, UnknownJob):
            async with asyncio.timeout(seconds):
                for item in await self._services.batches.items(batch_id, key.id):
                    async with aclosing(self._feed.follow(JobStatus(item.job, None, ()), None)) as statuses:
                        async for _ in statuses:
                            pass


def _wait_seconds(preferences: list[str]) -> float:
    """How long the caller would wait (RFC 7240). One that says nothing waits as long as it may."""
    said = ", ".join(preferences).lower()
    if (wait := _WAIT.search(said)) is not None:
        return min(float(wait[1]), _LONGEST_WAIT_SECONDS)
    return 0.0 if "respond-async" in said else _LONGEST_WAIT_SECONDS


_CREATED: dict[int | str, dict[str, Any]] = {
    200: {"model": BatchAnswer, "description": "Every item has ended."},
    202: {"model": BatchAnswer, "description": "Items wait or are being spoken."},
} | documented(400, 401, 403, 413, 429, 503)
