"""Our own dialect, which is also vox-serve's: `POST /generate`, and `GET /requests/{id}`."""

import asyncio
import random
import re
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from serve_app.api.native_schema import ContextItem, GenerateBody, parse_form, parse_json
from serve_app.audio.payload import audio_bytes
from serve_app.audio.read import read_clip
from serve_app.audio.wav import wav_file, wav_header
from serve_app.errors import InvalidRequest
from serve_app.messages import Accepted, AudioChunk, ModelInfo, SamplingParams
from serve_app.settings import Settings
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

Speech = AsyncGenerator[Accepted | AudioChunk, None]


class NativeApi:
    """Holds what its routes share."""

    def __init__(self, pipeline: SpeechPipeline, settings: Settings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._outcomes = RecentOutcomes()

    def router(self) -> APIRouter:
        router = APIRouter(tags=["speech"])
        router.add_api_route("/generate", self.generate, methods=["POST"], openapi_extra=_REQUEST_BODY, **_WAV)
        router.add_api_route("/requests/{request_id}", self.request_outcome, methods=["GET"])
        return router

    async def generate(self, request: Request) -> Response:
        """Speak a text, or a scene of several turns, in one WAV: whole, or streamed while it is made."""
        body, streams = await _read_body(request)
        info = await self._pipeline.info()
        speech_request = await self._speech_request(_request_id(request), body, info)
        speech = self._pipeline.stream(speech_request)
        # The status waits for this: a refusal is raised here, and never after a 200.
        accepted = await anext(speech)
        assert isinstance(accepted, Accepted), "a stream opens with Accepted"
        self._outcomes.begin(accepted.request_id, accepted.seed)
        headers = _headers(request, accepted, info)
        chunks = self._recorded(speech_request.request_id, speech)
        if streams:
            headers["Content-Disposition"] = f"attachment; filename=stream_{accepted.request_id[:8]}.wav"
            return StreamingResponse(_wav_stream(chunks), media_type="audio/wav", headers=headers)
        pcm = b"".join([chunk.pcm async for chunk in chunks])
        outcome = self._outcomes.get(accepted.request_id)
        headers["X-CSM-Finish-Reason"] = str(outcome.finish_reason)
        headers["X-CSM-Audio-Seconds"] = f"{outcome.audio_seconds:.2f}"
        headers["Content-Disposition"] = f'attachment; filename="{accepted.request_id}.wav"'
        return Response(wav_file(pcm), media_type="audio/wav", headers=headers)

    async def request_outcome(self, request_id: str) -> dict[str, Any]:
        """What became of a request of the last ten minutes; `finish_reason` is null while it runs."""
        outcome = self._outcomes.get(request_id)
        return {
            "request_id": outcome.request_id,
            "seed": outcome.seed,
            "finish_reason": outcome.finish_reason,
            "audio_seconds": outcome.audio_seconds,
        }

    async def _speech_request(self, request_id: str, body: GenerateBody, info: ModelInfo) -> SpeechRequest:
        settings = self._settings
        given = body.model_dump(include=set(_SAMPLING_FIELDS), exclude_none=True)
        seed = random.getrandbits(63) if body.seed is None else body.seed
        params = SamplingParams(**(settings.sampling.model_dump() | given), seed=seed)
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
            raise InvalidRequest("text", "send either text or scene, and not both")
        if body.text is not None:
            text = check_text("text", body.text, limits.max_text_chars)
            return (Turn(text, check_speaker("speaker", body.speaker)),)
        scene = body.scene or []
        if not 1 <= len(scene) <= limits.max_scene_turns:
            raise InvalidRequest("scene", f"must have from 1 to {limits.max_scene_turns} turns")
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
            raise InvalidRequest("context", f"has {len(items)} segments, at most {limits.max_context_segments} fit")

        def read(number: int, item: ContextItem) -> ContextClip:
            field = f"context.{number}.audio"
            pcm = read_clip(field, audio_bytes(field, item.audio), limits.max_context_seconds)
            text = check_text(f"context.{number}.text", item.text, limits.max_text_chars)
            return ContextClip(text, check_speaker(f"context.{number}.speaker", item.speaker), pcm)

        # Decoding audio would stall every stream of this loop.
        return tuple([await asyncio.to_thread(read, number, item) for number, item in enumerate(items)])

    async def _recorded(self, request_id: str, speech: Speech) -> AsyncGenerator[AudioChunk, None]:
        num_frames = 0
        async with aclosing(speech):
            async for chunk in speech:
                assert isinstance(chunk, AudioChunk), "Accepted comes once"
                num_frames += chunk.codes.num_frames
                self._outcomes.progress(request_id, num_frames, chunk.finish)
                yield chunk


async def _read_body(request: Request) -> tuple[GenerateBody, bool]:
    """The body, and whether to stream: users of forms expect a stream where they do not say, users of JSON a file."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = parse_json(await request.body())
        return body, bool(body.streaming)
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        async with request.form() as form:
            body = parse_form({name: value for name, value in form.items() if not isinstance(value, UploadFile)})
        return body, body.streaming is not False
    raise InvalidRequest("body", f"content type {kind!r} is not read here: send application/json or a form")


async def _wav_stream(chunks: AsyncGenerator[AudioChunk, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        # Alone and early: vox-serve's clients take the first read for the header and drop it.
        yield wav_header(None)
        async for chunk in chunks:
            if chunk.pcm:
                yield chunk.pcm


def _request_id(request: Request) -> str:
    """The caller's `X-Request-Id`, or the one that Serve gives a request without."""
    request_id = request.headers.get(_ID_HEADER) or uuid.uuid4().hex
    if not re.fullmatch(r"[\w.-]{1,128}", request_id, re.ASCII):
        raise InvalidRequest(_ID_HEADER, "must be 1 to 128 letters, digits, dots, dashes or underscores")
    return request_id


def _headers(request: Request, accepted: Accepted, info: ModelInfo) -> dict[str, str]:
    # Serve puts the id that it passed in into the response by itself; twice would reach clients as one odd value.
    named = {} if _ID_HEADER in request.headers else {_ID_HEADER: accepted.request_id}
    return named | {
        "X-CSM-Seed": str(accepted.seed),
        "X-CSM-Weights": info.weights,
        "Cache-Control": "no-cache",
    }


_ID_HEADER = "X-Request-Id"
_SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "repetition_penalty", "greedy")
_BODY_SCHEMA = {"schema": GenerateBody.model_json_schema(ref_template="#/components/schemas/{model}")}
_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: _BODY_SCHEMA for kind in ("application/json", "multipart/form-data")},
    }
}
_WAV: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {"audio/wav": {}}, "description": "24 kHz mono, signed 16 bit"}},
}
