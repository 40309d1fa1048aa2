"""Answers as audio over HTTP, whole or while they are made, whichever dialect asked."""

from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import Request, Response

from serve_app.api.codings import coding_headers
from serve_app.api.notices import text_headers, weights_headers
from serve_app.api.request_ids import id_headers
from serve_app.api.streaming import StreamedAnswer
from serve_app.audio.encode.formats import Coding
from serve_app.messages import ModelInfo
from serve_app.speech.answer import Answer
from serve_app.speech.encoded import encoded
from serve_app.speech.encoding import encoded_whole
from serve_app.speech.scene import Scene


def answer_headers(request: Request, answer: Answer, scene: Scene, info: ModelInfo) -> dict[str, str]:
    """What every answer with speech in it says of itself before it is made."""
    of_recordings = [notice for notice in answer.notices if notice not in scene.notices]
    return (
        id_headers(request, answer.accepted.request_id)
        | weights_headers(info, (*scene.remarks, *of_recordings))
        | text_headers(scene.notices)
        | {"X-CSM-Seed": str(answer.accepted.seed), "Cache-Control": "no-store"}
    )


def streamed_audio(
    answer: Answer, coding: Coding, headers: dict[str, str], held: AbstractAsyncContextManager[Any] | None = None
) -> Response:
    """Sent while it is made. A failure breaks it off. `held` holds the answer, if anything but itself does."""
    name = f"stream_{answer.accepted.request_id[:8]}.{coding.format.extension}"
    known = coding_headers(coding) | {"Content-Disposition": f"attachment; filename={name}"}
    return StreamedAnswer(encoded(answer, coding), coding.format.media_type, held or answer, headers=headers | known)


async def whole_audio(answer: Answer, coding: Coding, headers: dict[str, str]) -> Response:
    """Sent once it is complete, with its outcome in the headers."""
    async with answer:
        pcm = await answer.pcm()
    known = coding_headers(coding) | {
        "X-CSM-Finish-Reason": str(answer.outcome.finish_reason),
        "X-CSM-Audio-Seconds": f"{answer.outcome.audio_seconds:.2f}",
        "X-CSM-Characters-Spoken": str(answer.outcome.spoken_chars),
        "X-CSM-Turn-Starts": ",".join(f"{start:.2f}" for start in answer.outcome.turn_start_seconds),
        "Content-Disposition": f'attachment; filename="{answer.accepted.request_id}.{coding.format.extension}"',
    }
    body = await encoded_whole(pcm, coding)
    return Response(body, media_type=coding.format.media_type, headers=headers | known)
