"""Makes jobs of scenes, the same way for every dialect that queues them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from serve_app.api.models import Model
from serve_app.jobs.job import NewJob
from serve_app.settings import JobSettings
from serve_app.speech.scene import FileAudio, InlineAudio, Scene
from serve_app.store.files import FileStore

_MAX_RUN_SECONDS = 86_400.0
"""From the start of a job to the end of its last attempt. Its input files are kept for so long."""


class SceneJobs:
    """Jobs for one model."""

    def __init__(self, model: Model, files: FileStore, settings: JobSettings) -> None:
        self._application = model.application
        self._context = model.speech.context
        self._files = files
        self._start_timeout_seconds = settings.start_timeout_seconds

    async def new(
        self, read: Scene, endpoint: str, key_id: str, traceparent: str, start_timeout_seconds: float | None = None
    ) -> NewJob:
        """The job that speaks a scene, whose inline clips are stored first. Raises errors of the file store."""
        scene = await self._context.keep(read, key_id, self._kept_seconds(start_timeout_seconds))
        return NewJob(
            endpoint=endpoint,
            key_id=key_id,
            input=scene.to_json(),
            start_timeout_seconds=start_timeout_seconds,
            headers={"traceparent": traceparent},
            cost_seconds=scene.longest_seconds,
            identity=_identity(scene),
            file_ids=_stored_ids(read, scene),
            application=self._application,
        )

    async def keep_clips(self, jobs: Iterable[NewJob]) -> None:
        """To be called once they are queued: another job with the same clip may have ended since, and deleted it."""
        for job in jobs:
            for file_id in job.file_ids:
                await self._files.keep(file_id, self._kept_seconds(job.start_timeout_seconds))

    def _kept_seconds(self, start_timeout_seconds: float | None) -> float:
        return (start_timeout_seconds or self._start_timeout_seconds) + _MAX_RUN_SECONDS


def _identity(scene: Scene) -> dict[str, Any]:
    """The scene without the address by which its caller reached this server: a repeated submit may come by another."""
    return replace(scene, file=scene.file and replace(scene.file, url_base="")).to_json()


def _stored_ids(read: Scene, kept: Scene) -> tuple[str, ...]:
    """Ids of the files in which inline audio was stored."""
    pairs = zip(read.context, kept.context, strict=True)
    audio = [after.audio for before, after in pairs if isinstance(before.audio, InlineAudio)]
    return tuple(stored.file_id for stored in audio if isinstance(stored, FileAudio))
