"""The native dialect, which is also vox-serve's: `POST /generate` and `GET /requests/{id}`."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from serve_app.api.auth import key_of
from serve_app.api.body import JSON, MULTIPART, URLENCODED, content_type, form_fields
from serve_app.api.error_responses import documented
from serve_app.api.native_schema import GenerateBody, parse_form, parse_json
from serve_app.api.notices import text_headers, weights_headers
from serve_app.api.openapi import schema_ref
from serve_app.api.origin import origin_of
from serve_app.api.request_ids import id_headers, kept_id, request_id_of
from serve_app.api.streaming import StreamedAnswer, disconnect, while_connected
from serve_app.audio.wav import wav_file, wav_header
from serve_app.errors import InvalidRequest
from serve_app.keys.key import Scope
from serve_app.settings import Settings
from serve_app.speech.answer import Answer
from serve_app.speech.build import Asked, AskedClip
from serve_app.speech.scene import Scene, Turn
from serve_app.speech.service import Call, SpeechService


class NativeApi:
    """The routes of the native dialect."""

    def __init__(self, speech: SpeechService, settings: Settings) -> None:
        self._speech = speech
        self._settings = settings

    def router(self) -> APIRouter:
        router = APIRouter(tags=["speech"])
        router.add_api_route("/generate", self.generate, methods=["POST"], openapi_extra=_REQUEST_BODY, **_WAV)
        router.add_api_route(
            "/requests/{request_id:path}",
            self.request_outcome,
            methods=["GET"],
            responses=documented(401, 403, 404, 422),
        )
        return router

    async def generate(self, request: Request) -> Response:
        """Speak a text, or a scene of several turns, as one WAV: whole, or streamed while it is generated."""
        key = key_of(request, Scope.SPEECH)
        body, is_streamed = await self._read_body(request)
        call = Call(request_id_of(request), key, is_streamed, trace=request.headers.get("traceparent", ""))
        async with while_connected(partial(disconnect, request.receive)):
            with _named_as_sent(body):
                info = await self._speech.info()
                scene = await self._scene(body, request)
                # The status waits for admission: a refusal is raised here, and never after a 200.
                answer = await self._speech.open(scene, call)
            headers = (
                id_headers(request, call.request_id)
                | weights_headers(info, scene.remarks)
                | text_headers(scene.notices)
                | {"X-CSM-Seed": str(answer.accepted.seed), "Cache-Control": "no-store"}
            )
            if not is_streamed:
                return await _whole(answer, headers)
        return StreamedAnswer(_streamed_wav(answer), "audio/wav", answer, headers=headers | _attachment(answer))

    async def request_outcome(self, request: Request, request_id: str) -> dict[str, Any]:
        """How a request of the last ten minutes ended. `finish_reason` is null while it runs."""
        outcome = self._speech.outcomes.get(key_of(request, Scope.SPEECH).id, kept_id(request_id))
        return {
            "request_id": outcome.request_id,
            "seed": outcome.seed,
            "finish_reason": outcome.finish_reason,
            "audio_seconds": outcome.audio_seconds,
            "characters_spoken": outcome.spoken_chars,
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

    async def _scene(self, body: GenerateBody, request: Request) -> Scene:
        asked = Asked(
            turns=_turns(body),
            context=[AskedClip(item.text, item.speaker, item.audio) for item in body.context],
            sampling=body.model_dump(include=_SAMPLING_FIELDS, exclude_none=True),
            seed=body.seed,
            max_audio_seconds=body.max_audio_seconds,
            normalize=body.normalize,
            remarks=body.notices,
        )
        scene = await self._speech.scene(asked, self._settings)
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
        return [Turn(body.text, body.speaker)]
    return [Turn(turn.text, turn.speaker) for turn in body.scene or ()]


@contextmanager
def _named_as_sent(body: GenerateBody) -> Iterator[None]:
    """Rename fields in errors: for a single text the caller sent `text`, not `scene[0].text`."""
    try:
        yield
    except InvalidRequest as error:
        raise (error.at(error.field.removeprefix("turns[0].")) if body.text is not None else error) from None


async def _streamed_wav(answer: Answer) -> AsyncGenerator[bytes, None]:
    # In a message of its own: vox-serve's clients take the first read for the header and drop it.
    yield wav_header(None)
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            if chunk.pcm:
                yield chunk.pcm


async def _whole(answer: Answer, headers: dict[str, str]) -> Response:
    async with answer:
        pcm = await answer.pcm()
    known = {
        "X-CSM-Finish-Reason": str(answer.outcome.finish_reason),
        "X-CSM-Audio-Seconds": f"{answer.outcome.audio_seconds:.2f}",
        "X-CSM-Characters-Spoken": str(answer.outcome.spoken_chars),
        "Content-Disposition": f'attachment; filename="{answer.accepted.request_id}.wav"',
    }
    return Response(wav_file(pcm), media_type="audio/wav", headers=headers | known)


def _attachment(answer: Answer) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename=stream_{answer.accepted.request_id[:8]}.wav"}


_SAMPLING_FIELDS = {"temperature", "top_k", "top_p", "repetition_penalty", "greedy"}
_BODIES = {JSON: "GenerateBody", MULTIPART: "GenerateForm", URLENCODED: "GenerateForm"}
_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": schema_ref(name)} for kind, name in _BODIES.items()},
    }
}
_WAV: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {"content": {"audio/wav": {}}, "description": "24 kHz mono, signed 16 bit"},
        **documented(401, 403, 413, 422, 429, 500, 503),
    },
}
