"""The work of a queued scene, whichever dialect queued it."""

from contextlib import aclosing

from serve_app.api.job_output import notices_of, output_of
from serve_app.jobs.job import JobResult, LeasedJob
from serve_app.jobs.runner import Progress
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.keys.keys import Keys
from serve_app.speech.answer import StoredAnswer
from serve_app.speech.call import Call
from serve_app.speech.progress import SpeechProgress
from serve_app.speech.scene import Scene
from serve_app.speech.service import SpeechService

_BACKGROUND_PRIORITY = 1


class SceneWork:
    """A `jobs.runner.Work`. A second run has the same seed, and finds the file that the first one stored."""

    def __init__(self, speech: SpeechService, keys: Keys | None, record_seconds: float | None = None) -> None:
        """record_seconds: how long the records of answers are kept; None is the default of all answers."""
        self._record_seconds = record_seconds
        self._speech = speech
        self._keys = keys

    async def run(self, job: LeasedJob, progress: Progress) -> JobResult:
        scene = Scene.from_json(job.input)
        key = await self._key(job.key_id)
        call = Call(
            job.id,
            key,
            priority=_BACKGROUND_PRIORITY,
            record_seconds=self._record_seconds,
            trace=job.headers.get("traceparent", ""),
        )
        async with await self._speech.open(scene, call) as answer:
            news = SpeechProgress(answer)
            progress.log(news.opening())
            async with aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    for line in news.lines(chunk):
                        progress.log(line)
            stored = await answer.file()
            for line in news.closing(stored):
                progress.log(line)
            return _result(scene, stored, notices_of(scene, answer))

    async def _key(self, key_id: str) -> Key:
        if key_id == ANONYMOUS.id or self._keys is None:
            return ANONYMOUS
        return await self._keys.find(key_id)


def _result(scene: Scene, answer: StoredAnswer, notices: list[str]) -> JobResult:
    """The file is deleted with the job, unless the caller gave it its own lifetime."""
    goes_with_job = scene.file is not None and scene.file.kept_seconds is None
    return JobResult(
        output_of(answer, notices),
        inference_seconds=answer.inference_seconds,
        file_id=answer.file.id if goes_with_job else None,
    )
