"""The work of a queued scene."""

from contextlib import aclosing

from serve_app.api.fal.schema import output_of
from serve_app.jobs.job import JobResult, LeasedJob
from serve_app.jobs.runner import Progress
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.keys.keys import Keys
from serve_app.speech.scene import SceneInput
from serve_app.speech.scene_progress import SceneProgress
from serve_app.speech.scene_work import SceneAnswer, SceneWork

_BACKGROUND_PRIORITY = 1


class FalJobWork:
    """A `jobs.runner.Work`. A second run has the same seed, and finds the file that the first one stored."""

    def __init__(self, work: SceneWork, keys: Keys | None) -> None:
        self._work = work
        self._keys = keys

    async def run(self, job: LeasedJob, progress: Progress) -> JobResult:
        scene = SceneInput.from_json(job.input)
        key = await self._key(job.key_id)
        request = await self._work.request(
            scene, job.id, priority=_BACKGROUND_PRIORITY, trace=job.headers.get("traceparent", "")
        )
        progress_lines = SceneProgress(request)
        async with aclosing(self._work.speak(scene, request, key)) as messages:
            async for message in messages:
                for line in progress_lines.lines(message):
                    progress.log(line)
                if isinstance(message, SceneAnswer):
                    return _result(scene, message)
        raise AssertionError("a scene ends with its answer")

    async def _key(self, key_id: str) -> Key:
        if key_id == ANONYMOUS.id or self._keys is None:
            return ANONYMOUS
        return await self._keys.find(key_id)


def _result(scene: SceneInput, answer: SceneAnswer) -> JobResult:
    """The file is deleted with the job, unless the caller gave it its own lifetime."""
    goes_with_job = scene.file.kept_seconds is None
    return JobResult(
        output_of(answer),
        inference_seconds=answer.inference_seconds,
        file_id=answer.file.id if goes_with_job else None,
    )
