"""The native dialect, which is also vox-serve's: `POST /generate` and `GET /requests/{id}`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from serve_app.api.answers import answer_headers, streamed_audio, whole_audio
from serve_app.api.auth import key_of
from serve_app.api.body import JSON, MULTIPART, URLENCODED, content_type, form_fields
from serve_app.api.codings import AUDIO_CONTENT, asked_coding
from serve_app.api.error_responses import documented
from serve_app.api.native_schema import SAMPLING_FIELDS, GenerateBody, parse_form, parse_json
from serve_app.api.openapi import described_body
from serve_app.api.origin import origin_of
from serve_app.api.request_ids import kept_id, request_id_of
from serve_app.api.streaming import disconnect, while_connected
from serve_app.audio.encode.formats import WAV
from serve_app.errors import InvalidRequest
from serve_app.keys.key import Key, Scope
from serve_app.settings import Settings
from serve_app.speech.build import Asked, AskedClip
from serve_app.speech.call import Call
from serve_app.speech.scene import Scene, Turn
from serve_app.speech.service import SpeechService


class NativeApi:
    """The routes of the native dialect."""

    def __init__(self, speech: SpeechService, settings: Settings) -> None:
        self._speech = speech
        self._settings = settings

    def router(self) -> APIRouter:
        router = APIRouter(tags=["speech"])
        router.add_api_route("/generate", self.generate, methods=["POST"], openapi_extra=_REQUEST_BODY, **_AUDIO)
        router.add_api_route(
            "/requests/{request_id:path}",
            self.request_outcome,
            methods=["GET"],
            responses=documented(401, 403, 404, 422),
        )
        return router

    async def generate(self, request: Request) -> Response:
        """Speak a text, or a scene of several turns, in one file: whole, or streamed while it is made."""
        key = key_of(request, Scope.SPEECH)
        body, is_streamed = await self._read_body(request)
        coding = asked_coding(request, body.format or body.response_format, body.sample_rate, WAV)
        traceparent, is_lossy = request.headers.get("traceparent", ""), coding.format.is_lossy
        call = Call(request_id_of(request), key, is_streamed, is_lossy, trace=traceparent)
        async with while_connected(partial(disconnect, request.receive)):
            with _named_as_sent(body):
                info = await self._speech.info()
                scene = await self._scene(body, request, key)
                # The status waits for admission: a refusal is raised here, and never after a 200.
                answer = await self._speech.open(scene, call)
            headers = answer_headers(request, answer, scene, info)
            if not is_streamed:
                return await whole_audio(answer, coding, headers)
        return streamed_audio(answer, coding, headers)

    async def request_outcome(self, request: Request, request_id: str) -> dict[str, Any]:
        """How a request of the last ten minutes ended. `finish_reason` is null while it runs.

        `turn_starts` has the second at which each turn begins, of those that have begun.
        """
        outcome = await self._speech.outcome(key_of(request, Scope.SPEECH).id, kept_id(request_id))
        return {
            "request_id": outcome.request_id,
            "seed": outcome.seed,
            "finish_reason": outcome.finish_reason,
            "audio_seconds": outcome.audio_seconds,
            "characters_spoken": outcome.spoken_chars,
            "turn_starts": outcome.turn_start_seconds,
        }

    async def _read_body(self, request: Request) -> tuple[GenerateBody, bool]:
        """The body, and whether to stream. A form streams by default, JSON does not."""
        kind = await content_type(request)
        if kind == JSON:
            body = parse_json(await request.body(), self._settings.limits)
            return body, bool(body.streaming)
        limits = self._settings.limits
        body = parse_form(await form_fields(request, kind, limits.max_body_bytes), limits)
        return body, body.streaming is not False

    async def _scene(self, body: GenerateBody, request: Request, key: Key) -> Scene:
        asked = Asked(
            turns=_turns(body),
            context=[AskedClip(item.text, item.speaker, item.audio) for item in body.context],
            sampling=body.model_dump(include=SAMPLING_FIELDS, exclude_none=True),
            seed=body.seed,
            max_audio_seconds=body.max_audio_seconds,
            normalize=body.normalize,
            adapter=body.adapter,
            remarks=body.notices,
        )
        scene = await self._speech.scene(asked, self._settings, key)
        return await self._speech.context.locate(scene, origin_of(request.scope, self._settings.public_url))


def _turns(body: GenerateBody) -> list[Turn]:
    if (body.text is None) == (body.scene is None):
        raise InvalidRequest(
            "text",
            "is missing: send text, or scene for several turns"
            if body.text is None
            else "is sent beside scene: send one of them",
        )
    if body.text is not None:
        return [Turn(body.text, body.speaker, voice=body.voice)]
    return [Turn(turn.text, turn.speaker, voice=turn.voice or body.voice) for turn in body.scene or ()]


@contextmanager
def _named_as_sent(body: GenerateBody) -> Iterator[None]:
    """Rename fields in errors: for a single text the caller sent `text`, not `scene[0].text`."""
    try:
        yield
    except InvalidRequest as error:
        raise (error.at(error.field.removeprefix("turns[0].")) if body.text is not None else error) from None


_BODIES = {JSON: "GenerateBody", MULTIPART: "GenerateForm", URLENCODED: "GenerateForm"}
_SCENE = [{"text": "Hello, how are you?", "speaker": 0}, {"text": "Pretty good, thanks.", "speaker": 1}]
_EXAMPLES: dict[str, dict[str, Any]] = {
    "GenerateBody": {"text": {"text": "Hello, how are you?", "seed": 7}, "scene": {"scene": _SCENE, "format": "mp3"}},
    "GenerateForm": {"text": {"text": "Hello, how are you?", "streaming": False}},
}
_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: described_body(name, **_EXAMPLES[name]) for kind, name in _BODIES.items()},
    }
}
_AUDIO: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {"content": AUDIO_CONTENT, "description": "Mono; WAV of 24 kHz and 16 bit unless asked otherwise"},
        **documented(401, 403, 413, 422, 429, 500, 503),
    },
}
