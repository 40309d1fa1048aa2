"""What is done for a queued scene, and what its caller is told, in fal's words."""

from contextlib import aclosing

from serve_app.api.error_table import status_of
from serve_app.api.fal.errors import error_content, input_type
from serve_app.api.fal.schema import output_of
from serve_app.errors import CsmServeError, InvalidRequest
from serve_app.jobs.job import JobResult, LeasedJob
from serve_app.jobs.runner import Progress
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.keys.keys import Keys
from serve_app.speech.answer import StoredAnswer
from serve_app.speech.progress import SpeechProgress
from serve_app.speech.scene import Scene
from serve_app.speech.service import Call, SpeechService

_BACKGROUND = 1


def _result(scene: Scene, answer: StoredAnswer) -> JobResult:
    """Its file goes with the job, unless the caller gave it a lifetime of its own."""
    goes_with_job = scene.file is not None and scene.file.kept_seconds is None
    return JobResult(
        200,
        output_of(answer),
        inference_seconds=answer.inference_seconds,
        file_id=answer.file.id if goes_with_job else None,
    )


class FalJobWork:
    """A `jobs.runner.Work`. Run again after a crash it has the same seed, and finds a file that was stored before."""

    def __init__(self, speech: SpeechService, keys: Keys | None) -> None:
        self._speech = speech
        self._keys = keys

    async def run(self, job: LeasedJob, progress: Progress) -> JobResult:
        scene = Scene.from_json(job.input)
        key = await self._key(job.key_id)
        call = Call(job.id, key, priority=_BACKGROUND, trace=job.headers.get("traceparent", ""))
        async with await self._speech.open(scene, call) as answer:
            told = SpeechProgress(answer)
            progress.log(told.opening())
            async with aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    for line in told.lines(chunk):
                        progress.log(line)
            stored = await answer.file()
            for line in told.closing(stored):
                progress.log(line)
            return _result(scene, stored)

    def failure(self, error: CsmServeError) -> JobResult:
        content = error_content(error)
        if isinstance(error, InvalidRequest):
            return JobResult(status_of(error), content, input_type(error), str(error))
        return JobResult(status_of(error), content, content.get("error_type", "internal_error"), str(error))

    async def _key(self, key_id: str) -> Key:
        if key_id == ANONYMOUS.id or self._keys is None:
            return ANONYMOUS
        return await self._keys.find(key_id)
