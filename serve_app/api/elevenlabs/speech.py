"""`POST /v1/text-to-speech/{voice_id}`: audio as a file or as it is made, with character times or without."""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serve_app.api.answers import answer_headers, streamed_audio, whole_audio
from serve_app.api.auth import key_of
from serve_app.api.codings import AUDIO_CONTENT
from serve_app.api.elevenlabs.errors import documented
from serve_app.api.elevenlabs.output_formats import DEFAULT, coding_named
from serve_app.api.elevenlabs.schema import SPEECH_BODY, ElevenLabsSpeechBody, asked, parse
from serve_app.api.elevenlabs.times import CharacterTimes
from serve_app.api.elevenlabs.voices import turn_with
from serve_app.api.request_ids import request_id_of
from serve_app.api.streaming import StreamedAnswer, disconnect, while_connected
from serve_app.audio.encode.formats import Coding
from serve_app.keys.key import Key, Scope
from serve_app.settings import Settings
from serve_app.speech.answer import Answer
from serve_app.speech.call import Call
from serve_app.speech.encoding import LiveEncoder, encoded_whole
from serve_app.speech.service import SpeechService

PREFIX = "/v1/text-to-speech"
_ERRORS = documented(401, 403, 404, 413, 422, 429, 500, 503)


@dataclass(frozen=True, slots=True)
class _AskedFor:
    key: Key
    voice_id: str
    body: ElevenLabsSpeechBody
    coding: Coding


@dataclass(frozen=True, slots=True)
class _Opened:
    answer: Answer
    coding: Coding
    times: CharacterTimes
    headers: dict[str, str]


class ElevenLabsSpeech:
    def __init__(self, speech: SpeechService, settings: Settings) -> None:
        self._speech = speech
        self._settings = settings

    def router(self) -> APIRouter:
        router = APIRouter(tags=["elevenlabs"])
        audio: dict[str, Any] = {
            "response_class": Response,
            "responses": {200: {"content": AUDIO_CONTENT, "description": "Mono audio"}, **_ERRORS},
        }
        timed: dict[str, Any] = {"responses": _ERRORS}
        for path, route, described in (
            ("", self.convert, audio),
            ("/stream", self.stream, audio),
            ("/with-timestamps", self.with_timestamps, timed),
            ("/stream/with-timestamps", self.stream_with_timestamps, timed),
        ):
            router.add_api_route(
                f"{PREFIX}/{{voice_id}}{path}", route, methods=["POST"], openapi_extra=SPEECH_BODY, **described
            )
        return router

    async def convert(self, request: Request, voice_id: str, output_format: str = DEFAULT) -> Response:
        """Speak a text, sent once it is complete."""
        asked_for = await _read(request, voice_id, output_format)
        async with while_connected(partial(disconnect, request.receive)):
            opened = await self._opened(request, asked_for, is_streamed=False)
            return await whole_audio(opened.answer, opened.coding, opened.headers)

    async def stream(self, request: Request, voice_id: str, output_format: str = DEFAULT) -> Response:
        """Speak a text, sent while it is spoken."""
        asked_for = await _read(request, voice_id, output_format)
        async with while_connected(partial(disconnect, request.receive)):
            opened = await self._opened(request, asked_for, is_streamed=True)
        return streamed_audio(opened.answer, opened.coding, opened.headers)

    async def with_timestamps(self, request: Request, voice_id: str, output_format: str = DEFAULT) -> Response:
        """Speak a text, and tell when each of its characters is said."""
        asked_for = await _read(request, voice_id, output_format)
        async with while_connected(partial(disconnect, request.receive)):
            opened = await self._opened(request, asked_for, is_streamed=False)
            async with opened.answer as answer, opened.times as times, aclosing(answer.chunks()) as chunks:
                pcm: list[bytes] = []
                async for chunk in chunks:
                    times.take(chunk)
                    pcm.append(chunk.pcm)
                audio = await encoded_whole(b"".join(pcm), opened.coding)
                return JSONResponse(_content(audio, await times.all()), headers=opened.headers)

    async def stream_with_timestamps(self, request: Request, voice_id: str, output_format: str = DEFAULT) -> Response:
        """The same while it is spoken: a JSON object in each line."""
        asked_for = await _read(request, voice_id, output_format)
        async with while_connected(partial(disconnect, request.receive)):
            opened = await self._opened(request, asked_for, is_streamed=True)
        return StreamedAnswer(_lines(opened), "application/json", opened.answer, headers=opened.headers)

    async def _opened(self, request: Request, asked_for: _AskedFor, is_streamed: bool) -> _Opened:
        key, body, speed = asked_for.key, asked_for.body, asked_for.coding.speed
        turn = await turn_with(asked_for.voice_id, body.text, self._speech, key)
        is_lossy, traceparent = asked_for.coding.format.is_lossy, request.headers.get("traceparent", "")
        call = Call(request_id_of(request), key, is_streamed, is_lossy, speed, trace=traceparent)
        info = await self._speech.info()
        scene = await self._speech.scene(asked(body, turn, self._settings), self._settings, key)
        # The status waits for admission: a refusal is raised here, and never after a 200.
        answer = await self._speech.open(scene, call)
        text = scene.turns[0].text
        theirs = {"request-id": answer.accepted.request_id, "character-cost": str(len(text))}
        times = CharacterTimes(text, speed, self._speech.aligner)
        return _Opened(answer, asked_for.coding, times, answer_headers(request, answer, scene, info) | theirs)


async def _read(request: Request, voice_id: str, output_format: str) -> _AskedFor:
    """The body is read before anybody waits for the client to leave, which would take the body's messages."""
    key = key_of(request, Scope.SPEECH)
    body = parse(await request.body())
    return _AskedFor(key, voice_id, body, coding_named(output_format, body.voice_settings.speed))


async def _lines(opened: _Opened) -> AsyncGenerator[str, None]:
    async with (
        LiveEncoder(opened.coding) as encoder,
        opened.times as times,
        aclosing(opened.answer.chunks()) as chunks,
    ):
        header = await encoder.feed(b"")
        async for chunk in chunks:
            times.take(chunk)
            if chunk.pcm and (audio := header + await encoder.feed(chunk.pcm)):
                header = b""
                yield f"{json.dumps(_content(audio, times.known()))}\n"
        yield f"{json.dumps(_content(header + await encoder.finish(), await times.all()))}\n"


def _content(audio: bytes, times: dict[str, Any]) -> dict[str, Any]:
    return {"audio_base64": base64.b64encode(audio).decode(), **times}
