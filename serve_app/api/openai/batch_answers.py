"""Jobs of a batch as its caller reads them."""

import base64
from collections.abc import Sequence
from typing import Any, Literal

from serve_app.api.openai.batch_schema import BatchAnswer, BatchResult
from serve_app.api.openai.errors import OpenAiError, error_content
from serve_app.errors import FileTooLarge, InternalError, UnknownFile
from serve_app.jobs.batches import BatchItem
from serve_app.jobs.job import JobError, JobState
from serve_app.store.files import FileStore

_MOST_AUDIO_BYTES = 16 * 1024 * 1024
"""Of one answer. The audio of further items is at their URLs."""
_WORDS: dict[JobState, Literal["queued", "in_progress", "success", "error"]] = {
    JobState.QUEUED: "queued",
    JobState.RUNNING: "in_progress",
    JobState.COMPLETED: "success",
    JobState.FAILED: "error",
    JobState.CANCELLED: "error",
}


def answer_of(batch_id: str, items: Sequence[BatchItem]) -> BatchAnswer:
    results = [_result(item) for item in items]
    return BatchAnswer(
        id=batch_id,
        status="completed" if all(item.job.state.is_final for item in items) else "in_progress",
        created_at=int(min(item.job.created_at for item in items)),
        results=results,
        total=len(results),
        succeeded=sum(result.status == "success" for result in results),
        failed=sum(result.status == "error" for result in results),
    )


async def with_audio(answer: BatchAnswer, files: FileStore) -> BatchAnswer:
    """The same with the sound of each item, as far as one answer may hold it. Raises StorageFailed."""
    room = _MOST_AUDIO_BYTES
    results: list[BatchResult] = []
    for result in answer.results:
        audio = await _audio(result, files, room)
        room -= len(audio or b"")
        data = None if audio is None else base64.b64encode(audio).decode()
        results.append(result.model_copy(update={"audio_data": data}))
    return answer.model_copy(update={"results": results})


async def _audio(result: BatchResult, files: FileStore, most_bytes: int) -> bytes | None:
    if result.audio_url is None:
        return None
    try:
        return await files.read_all(result.audio_url.split("/")[-2], most_bytes)
    except (FileTooLarge, UnknownFile):  # its caller may have deleted the file
        return None


def _result(item: BatchItem) -> BatchResult:
    job = item.job
    ended = item.result
    spoken: dict[str, Any] = (ended.output or {}) if ended is not None and ended.is_success else {}
    audio = spoken.get("audio", {})
    return BatchResult(
        index=item.position,
        id=job.id,
        status=_WORDS[job.state],
        audio_url=audio.get("url"),
        media_type=audio.get("content_type"),
        finish_reason=spoken.get("finish_reason"),
        audio_seconds=spoken.get("audio_seconds"),
        seed=spoken.get("seed"),
        quality=spoken.get("quality"),
        error=None if job.error is None else _error(job.error),
        notices=spoken.get("notices", []),
    )


def _error(error: JobError) -> OpenAiError:
    found = error.exception() or InternalError(str(error))
    return OpenAiError.model_validate(error_content(found)["error"])
