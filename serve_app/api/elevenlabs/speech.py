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
from serve_app.api.elevenlabs.alignment import Aligned, seconds_of
from serve_app.api.elevenlabs.errors import documented
from serve_app.api.elevenlabs.output_formats import DEFAULT, coding_named
from serve_app.api.elevenlabs.schema import SPEECH_BODY, asked, parse
from serve_app.api.elevenlabs.voices import turn_with
from serve_app.api.request_ids import request_id_of
from serve_app.api.streaming import StreamedAnswer, disconnect, while_connected
from serve_app.audio.encode.formats import Coding
from serve_app.keys.key import Scope
from serve_app.messages import SpokenPart
from serve_app.settings import Settings
from serve_app.speech.answer import Answer
from serve_app.speech.call import Call
from serve_app.speech.encoding import LiveEncoder, encoded_whole
from serve_app.speech.service import SpeechService

PREFIX = "/v1/text-to-speech"
_ERRORS = documented(401, 403, 404, 413, 422, 429, 500, 503)


@dataclass(frozen=True, slots=True)
class _Opened:
    answer: Answer
    coding: Coding
    text: str
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
        async with while_connected(partial(disconnect, request.receive)):
            opened = await self._opened(request, voice_id, output_format, is_streamed=False)
            return await whole_audio(opened.answer, opened.coding, opened.headers)

    async def stream(self, request: Request, voice_id: str, output_format: str = DEFAULT) -> Response:
        """Speak a text, sent while it is spoken."""
        async with while_connected(partial(disconnect, request.receive)):
            opened = await self._opened(request, voice_id, output_format, is_streamed=True)
        return streamed_audio(opened.answer, opened.coding, opened.headers)

    async def with_timestamps(self, request: Request, voice_id: str, output_format: str = DEFAULT) -> Response:
        """Speak a text, and tell when each of its characters is said."""
        async with while_connected(partial(disconnect, request.receive)):
            opened = await self._opened(request, voice_id, output_format, is_streamed=False)
            async with opened.answer as answer:
                pcm = await answer.pcm()
        times = _Times(opened.text, opened.coding.speed)
        for part in answer.parts:
            times.add(part)
        audio = await encoded_whole(pcm, opened.coding)
        return JSONResponse(_content(audio, times.taken()), headers=opened.headers)

    async def stream_with_timestamps(self, request: Request, voice_id: str, output_format: str = DEFAULT) -> Response:
        """The same while it is spoken: a JSON object in each line."""
        async with while_connected(partial(disconnect, request.receive)):
            opened = await self._opened(request, voice_id, output_format, is_streamed=True)
        return StreamedAnswer(_lines(opened), "application/json", opened.answer, headers=opened.headers)

    async def _opened(self, request: Request, voice_id: str, output_format: str, is_streamed: bool) -> _Opened:
        key = key_of(request, Scope.SPEECH)
        body = parse(await request.body())
        speed = body.voice_settings.speed
        coding = coding_named(output_format, speed)
        turn = await turn_with(voice_id, body.text, self._speech, key)
        # Pacing holds a stream back to the speed of speech, and this listener may hear it faster.
        is_paced, traceparent = is_streamed and speed <= 1, request.headers.get("traceparent", "")
        call = Call(request_id_of(request), key, is_paced, coding.format.is_lossy, trace=traceparent)
        info = await self._speech.info()
        scene = await self._speech.scene(asked(body, turn, self._settings), self._settings, key)
        # The status waits for admission: a refusal is raised here, and never after a 200.
        answer = await self._speech.open(scene, call)
        text = scene.turns[0].text
        theirs = {"request-id": answer.accepted.request_id, "character-cost": str(len(text))}
        return _Opened(answer, coding, text, answer_headers(request, answer, scene, info) | theirs)


class _Times:
    """Times of the typed characters and of the spoken ones. What is not spoken goes with the part behind it."""

    def __init__(self, text: str, speed: float) -> None:
        self._text = text
        self._speed = speed
        self._told = 0
        self._typed, self._spoken = Aligned(), Aligned()

    def add(self, part: SpokenPart) -> None:
        start, end = seconds_of(part, self._speed)
        self._typed.add(self._text[self._told : part.end_char], start, end)
        self._spoken.add(f"{part.text} ", start, end)
        self._told = part.end_char

    def taken(self) -> dict[str, Any]:
        """What was added since the last call; null if nothing was."""
        typed, spoken = self._typed, self._spoken
        self._typed, self._spoken = Aligned(), Aligned()
        return {
            "alignment": typed.in_seconds() if typed.chars else None,
            "normalized_alignment": spoken.in_seconds() if spoken.chars else None,
        }


async def _lines(opened: _Opened) -> AsyncGenerator[str, None]:
    times = _Times(opened.text, opened.coding.speed)
    async with LiveEncoder(opened.coding) as encoder, aclosing(opened.answer.chunks()) as chunks:
        header = await encoder.feed(b"")
        async for chunk in chunks:
            if chunk.part is not None:
                times.add(chunk.part)
            if chunk.pcm and (audio := header + await encoder.feed(chunk.pcm)):
                header = b""
                yield f"{json.dumps(_content(audio, times.taken()))}\n"
        yield f"{json.dumps(_content(header + await encoder.finish(), times.taken()))}\n"


def _content(audio: bytes, times: dict[str, Any]) -> dict[str, Any]:
    return {"audio_base64": base64.b64encode(audio).decode(), **times}
