"""Our own dialect, which is also vox-serve's: `POST /generate`, and `GET /requests/{id}`."""

import asyncio
import random
import re
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from serve_app.api.auth import key_of, needs
from serve_app.api.body import JSON, MULTIPART, URLENCODED, content_type, form_fields
from serve_app.api.disconnect import until_disconnect
from serve_app.api.error_responses import documented
from serve_app.api.health import weights_headers
from serve_app.api.native_schema import ContextItem, GenerateBody, parse_form, parse_json
from serve_app.api.openapi import schema_ref
from serve_app.audio.payload import audio_bytes
from serve_app.audio.read import read_clip
from serve_app.audio.wav import wav_file, wav_header
from serve_app.errors import InvalidRequest
from serve_app.keys.key import Scope
from serve_app.keys.limits import Allowance
from serve_app.messages import Accepted, ModelInfo, SamplingParams
from serve_app.settings import Settings
from serve_app.speech.charged import charged
from serve_app.speech.live_answer import LiveAnswer
from serve_app.speech.outcomes import RecentOutcomes
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import (
    ContextClip,
    SpeechRequest,
    Turn,
    check_max_audio_seconds,
    check_sampling,
    check_speaker,
    check_text,
)


class NativeApi:
    """Holds what its routes share."""

    def __init__(self, pipeline: SpeechPipeline, settings: Settings, allowance: Allowance) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._allowance = allowance
        self._outcomes = RecentOutcomes()

    def router(self) -> APIRouter:
        router = APIRouter(tags=["speech"], dependencies=[needs(Scope.SPEECH)])
        router.add_api_route("/generate", self.generate, methods=["POST"], openapi_extra=_REQUEST_BODY, **_WAV)
        router.add_api_route(
            "/requests/{request_id}", self.request_outcome, methods=["GET"], responses=documented(401, 403, 404, 422)
        )
        return router

    async def generate(self, request: Request) -> Response:
        """Speak a text, or a scene of several turns, in one WAV: whole, or streamed while it is made."""
        body, is_streamed = await self._read_body(request)
        arrived_at = time.monotonic()
        async with until_disconnect(request.receive):
            info = await self._pipeline.info()
            speech_request = replace(
                await self._speech_request(_request_id(request), body, info),
                is_streamed=is_streamed,
                arrived_at=arrived_at,
                trace=request.headers.get("traceparent", ""),
            )
            key = key_of(request)
            speech = charged(self._pipeline.stream(speech_request), speech_request, key, self._allowance)
            # The status waits for this: a refusal is raised here, and never after a 200.
            answer = await LiveAnswer.open(speech, self._outcomes, key.id)
            headers = _headers(request, answer.accepted, info)
            if not is_streamed:
                return await _whole(answer, headers)
        return _StreamedWav(answer, headers)

    async def request_outcome(self, request: Request, request_id: str) -> dict[str, Any]:
        """What became of a request of the last ten minutes; `finish_reason` is null while it runs."""
        outcome = self._outcomes.get(key_of(request).id, request_id)
        return {
            "request_id": outcome.request_id,
            "seed": outcome.seed,
            "finish_reason": outcome.finish_reason,
            "audio_seconds": outcome.audio_seconds,
        }

    async def _read_body(self, request: Request) -> tuple[GenerateBody, bool]:
        """And whether to stream: users of forms expect a stream where they do not say, users of JSON a file."""
        kind = content_type(request)
        if kind == JSON:
            body = parse_json(await request.body())
            return body, bool(body.streaming)
        body = parse_form(await form_fields(request, kind, self._settings.limits.max_body_bytes))
        return body, body.streaming is not False

    async def _speech_request(self, request_id: str, body: GenerateBody, info: ModelInfo) -> SpeechRequest:
        settings = self._settings
        given = body.model_dump(include=set(_SAMPLING_FIELDS), exclude_none=True)
        seed = random.getrandbits(63) if body.seed is None else body.seed
        defaults = settings.sampling.model_dump()
        defaults["top_k"] = min(defaults["top_k"], info.codebook_size)
        params = SamplingParams(**(defaults | given), seed=seed)
        return SpeechRequest(
            request_id=request_id,
            turns=self._turns(body),
            sampling=check_sampling(params, info.codebook_size),
            max_audio_seconds=check_max_audio_seconds(
                settings.limits.max_audio_seconds if body.max_audio_seconds is None else body.max_audio_seconds,
                settings.limits,
            ),
            context=await self._context(body.context),
        )

    def _turns(self, body: GenerateBody) -> tuple[Turn, ...]:
        limits = self._settings.limits
        if (body.text is None) == (body.scene is None):
            raise InvalidRequest(
                "text",
                "is missing: send text, or scene for several turns"
                if body.text is None
                else "is sent beside scene: send one of them",
            )
        if body.text is not None:
            text = check_text("text", body.text, limits.max_text_chars)
            return (Turn(text, check_speaker("speaker", body.speaker)),)
        scene = body.scene or []
        if not 1 <= len(scene) <= limits.max_scene_turns:
            raise InvalidRequest("scene", f"has {len(scene)} turns: send from 1 to {limits.max_scene_turns}")
        return tuple(
            Turn(
                check_text(f"scene.{number}.text", turn.text, limits.max_text_chars),
                check_speaker(f"scene.{number}.speaker", turn.speaker),
            )
            for number, turn in enumerate(scene)
        )

    async def _context(self, items: list[ContextItem]) -> tuple[ContextClip, ...]:
        limits = self._settings.limits
        if len(items) > limits.max_context_segments:
            raise InvalidRequest("context", f"has {len(items)} segments: send at most {limits.max_context_segments}")

        def read(number: int, item: ContextItem) -> ContextClip:
            field = f"context.{number}.audio"
            pcm = read_clip(field, audio_bytes(field, item.audio), limits.max_context_seconds)
            text = check_text(f"context.{number}.text", item.text, limits.max_text_chars)
            return ContextClip(text, check_speaker(f"context.{number}.speaker", item.speaker), pcm)

        # Decoding audio would stall every stream of this loop.
        return tuple([await asyncio.to_thread(read, number, item) for number, item in enumerate(items)])


class _StreamedWav(StreamingResponse):
    """However the sending ends, the slots are free when this returns."""

    def __init__(self, answer: LiveAnswer, headers: dict[str, str]) -> None:
        self._answer = answer
        self._wav = _streamed_wav(answer)
        name = f"attachment; filename=stream_{answer.accepted.request_id[:8]}.wav"
        super().__init__(self._wav, media_type="audio/wav", headers=headers | {"Content-Disposition": name})

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        # Not Starlette's own way: it cancels again and again, also what cleans up behind a first cancellation.
        async with self._answer, aclosing(self._wav), until_disconnect(receive):
            await self.stream_response(send)


async def _streamed_wav(answer: LiveAnswer) -> AsyncGenerator[bytes, None]:
    # Alone and early: vox-serve's clients take the first read for the header and drop it.
    yield wav_header(None)
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            if chunk.pcm:
                yield chunk.pcm


async def _whole(answer: LiveAnswer, headers: dict[str, str]) -> Response:
    async with answer, aclosing(answer.chunks()) as chunks:
        pcm = b"".join([chunk.pcm async for chunk in chunks])
    known = {
        "X-CSM-Finish-Reason": str(answer.outcome.finish_reason),
        "X-CSM-Audio-Seconds": f"{answer.outcome.audio_seconds:.2f}",
        "Content-Disposition": f'attachment; filename="{answer.accepted.request_id}.wav"',
    }
    return Response(wav_file(pcm), media_type="audio/wav", headers=headers | known)


def _request_id(request: Request) -> str:
    """The caller's `X-Request-Id`, or the one that Serve gives a request without."""
    request_id = request.headers.get(_ID_HEADER) or uuid.uuid4().hex
    if not re.fullmatch(r"[\w.-]{1,128}", request_id, re.ASCII):
        raise InvalidRequest(_ID_HEADER, "must be 1 to 128 letters, digits, dots, dashes or underscores")
    return request_id


def _headers(request: Request, accepted: Accepted, info: ModelInfo) -> dict[str, str]:
    # Serve puts the id that it passed in into the response by itself; twice would reach clients as one odd value.
    named = {} if _ID_HEADER in request.headers else {_ID_HEADER: accepted.request_id}
    return named | weights_headers(info) | {"X-CSM-Seed": str(accepted.seed), "Cache-Control": "no-cache"}


_ID_HEADER = "X-Request-Id"
_SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "repetition_penalty", "greedy")
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
