"""What is done for a queued scene, and what its caller is told, in fal's words."""

from contextlib import aclosing

from serve_app.api.error_responses import status_of
from serve_app.api.fal.errors import error_content, input_type
from serve_app.api.fal.schema import output_of
from serve_app.errors import CsmServeError, InvalidRequest
from serve_app.jobs.job import JobResult, LeasedJob
from serve_app.jobs.runner import Progress
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.keys.keys import Keys
from serve_app.speech.scene import SceneInput
from serve_app.speech.scene_progress import SceneProgress
from serve_app.speech.scene_work import SceneAnswer, SceneWork

_BACKGROUND = 1


def _result(scene: SceneInput, answer: SceneAnswer) -> JobResult:
    """Its file is forgotten with the job, unless the caller gave it a lifetime of its own."""
    goes_with_job = scene.file.kept_seconds is None
    return JobResult(
        200,
        output_of(answer),
        inference_seconds=answer.inference_seconds,
        file_id=answer.file.id if goes_with_job else None,
    )


class FalJobWork:
    """A `jobs.runner.Work`. Run again after a crash it has the same seed, and finds a file that was stored before."""

    def __init__(self, work: SceneWork, keys: Keys | None) -> None:
        self._work = work
        self._keys = keys

    async def run(self, job: LeasedJob, progress: Progress) -> JobResult:
        scene = SceneInput.from_json(job.input)
        key = await self._key(job.key_id)
        request = await self._work.request(
            scene, job.id, priority=_BACKGROUND, trace=job.headers.get("traceparent", "")
        )
        news = SceneProgress(request)
        async with aclosing(self._work.speak(scene, request, key)) as messages:
            async for message in messages:
                for line in news.lines(message):
                    progress.log(line)
                if isinstance(message, SceneAnswer):
                    return _result(scene, message)
        raise AssertionError("a scene ends with its answer")

    def failure(self, error: CsmServeError) -> JobResult:
        content = error_content(error)
        if isinstance(error, InvalidRequest):
            return JobResult(status_of(error), content, input_type(error), str(error))
        return JobResult(status_of(error), content, content.get("error_type", "internal_error"), str(error))

    async def _key(self, key_id: str) -> Key:
        if key_id == ANONYMOUS.id or self._keys is None:
            return ANONYMOUS
        return await self._keys.find(key_id)
