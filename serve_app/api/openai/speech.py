"""`POST /v1/audio/speech`: audio as it is made, as a file, or in server-sent events."""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from serve_app.api.answers import answer_headers, streamed_audio, whole_audio
from serve_app.api.auth import key_of
from serve_app.api.codings import AUDIO_CONTENT, asked_coding, coding_headers
from serve_app.api.models import Model, Models
from serve_app.api.openai.catalogue import own_names
from serve_app.api.openai.errors import PREFIX, documented, error_content
from serve_app.api.openai.schema import SPEECH_BODY, SpeechBody, SpeechOptions, asked, parse
from serve_app.api.origin import origin_of
from serve_app.api.request_ids import kept_id, request_id_of
from serve_app.api.streaming import EVENT_STREAM, StreamedAnswer, disconnect, event, while_connected
from serve_app.audio.encode.formats import MP3, Coding
from serve_app.errors import CsmServeError
from serve_app.keys.key import Key, Scope
from serve_app.settings import Settings
from serve_app.speech.answer import Answer
from serve_app.speech.call import Call
from serve_app.speech.encoded import encoded
from serve_app.speech.outcomes import Outcome
from serve_app.speech.scene import Scene
from serve_app.speech.service import SpeechService


class OpenAiSpeech:
    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._settings = settings

    def router(self) -> APIRouter:
        router = APIRouter(tags=["openai"])
        router.add_api_route(
            f"{PREFIX}/audio/speech", self.create, methods=["POST"], openapi_extra=SPEECH_BODY, **_AUDIO_OR_EVENTS
        )
        router.add_api_route(
            f"{PREFIX}/audio/speech/{{request_id:path}}",
            self.outcome,
            methods=["GET"],
            responses=documented(401, 403, 404, 422),
        )
        return router

    async def outcome(self, request: Request, request_id: str) -> dict[str, Any]:
        """How a request of the last ten minutes ended; `finish_reason` is null while it runs."""
        outcome = self._models.own.speech.outcomes.get(key_of(request, Scope.SPEECH).id, kept_id(request_id))
        return {"id": outcome.request_id, "object": "audio.speech", **_told(outcome)}

    async def create(self, request: Request) -> Response:
        """Speak a text with one of OpenAI's voices or a speaker's number."""
        key = key_of(request, Scope.SPEECH)
        body = parse(await request.body(), self._settings.limits)
        coding = asked_coding(request, body.response_format, body.sample_rate, MP3, body.speed)
        is_streamed = body.stream or body.stream_format == "sse"
        traceparent, is_lossy = request.headers.get("traceparent", ""), coding.format.is_lossy
        call = Call(request_id_of(request), key, is_streamed, is_lossy, body.speed, trace=traceparent)
        async with while_connected(partial(disconnect, request.receive)):
            speech = (await named(self._models, body)).speech
            info = await speech.info()
            scene = await self._scene(speech, body, request, key)
            # The status waits for admission: a refusal is raised here, and never after a 200.
            answer = await speech.open(scene, call)
            asked_for = {"X-CSM-Model": info.model, "X-CSM-Input-Tokens": str(answer.accepted.prompt_tokens)}
            headers = answer_headers(request, answer, scene, info) | asked_for
            if not is_streamed:
                whole = await whole_audio(answer, coding, headers)
                whole.headers["X-CSM-Output-Tokens"] = str(_usage(answer)["output_tokens"])
                return whole
        if body.stream_format == "sse":
            return StreamedAnswer(
                _events(answer, coding), EVENT_STREAM, answer, headers=headers | coding_headers(coding)
            )
        return streamed_audio(answer, coding, headers)

    async def _scene(self, speech: SpeechService, body: SpeechBody, request: Request, key: Key) -> Scene:
        kept = await speech.kept_voice(body.voice, key)
        scene = await speech.scene(asked(body, kept.id if kept else None), self._settings, key)
        return await speech.context.locate(scene, origin_of(request.scope, self._settings.public_url))


async def named(models: Models, body: SpeechOptions) -> Model:
    """Raises InvalidRequest where a server of several models has none of that name."""
    return models.find(body.model, await own_names(models.own.speech)) if models.others else models.own


async def _events(answer: Answer, coding: Coding) -> AsyncGenerator[str, None]:
    """The deltas together are one stream in the format that was asked for."""
    try:
        async with aclosing(encoded(answer, coding)) as pieces:
            async for piece in pieces:
                yield event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
    except CsmServeError as error:
        yield event({"type": "error", **error_content(error)})
        raise
    outcome = answer.outcome
    done = {"type": "speech.audio.done", "usage": _usage(answer), "request_id": outcome.request_id}
    yield event(done | _told(outcome))


def _told(outcome: Outcome) -> dict[str, Any]:
    return {
        "finish_reason": outcome.finish_reason,
        "audio_seconds": outcome.audio_seconds,
        "characters_spoken": outcome.spoken_chars,
        "seed": outcome.seed,
    }


def _usage(answer: Answer) -> dict[str, int]:
    """Positions of the first prompt, and frames of audio: 12.5 a second."""
    asked_for, spoken = answer.accepted.prompt_tokens, answer.outcome.num_frames
    return {"input_tokens": asked_for, "output_tokens": spoken, "total_tokens": asked_for + spoken}


_AUDIO_OR_EVENTS: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {"content": AUDIO_CONTENT | {EVENT_STREAM: {}}, "description": "Mono; MP3 unless asked otherwise"},
        **documented(400, 401, 403, 413, 429, 500, 503),
    },
}
