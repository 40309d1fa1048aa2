"""Answers that were given, had again: in another format, turn by turn, timed, replayed. Under `/requests/{id}`."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

from serve_app import __version__
from serve_app.api.auth import key_of
from serve_app.api.codings import AUDIO_CONTENT, asked_coding, coding_headers
from serve_app.api.error_responses import documented
from serve_app.api.places import Places
from serve_app.api.request_ids import kept_id, request_id_of
from serve_app.audio.encode.formats import WAV
from serve_app.errors import InvalidRequest, UnknownRequest
from serve_app.keys.key import Key, Scope
from serve_app.messages import FRAME_RATE_HZ
from serve_app.records.record import Record
from serve_app.settings import Settings
from serve_app.speech.again import regenerated, replayed
from serve_app.speech.call import Call
from serve_app.speech.encoding import encoded_whole
from serve_app.speech.kept_records import KeptRecords
from serve_app.speech.knobs import seed_of
from serve_app.speech.service import SpeechService
from serve_app.speech.timeline import TimedText, TimedWord, srt, timed_parts, timed_turns, vtt

_ONE = "/requests/{request_id:path}"
_FAILURES = documented(401, 403, 404, 422, 429, 500, 503)


class RegenerateBody(BaseModel):
    seed: int | None = None


class KeptAnswers:
    def __init__(self, speech: SpeechService, settings: Settings) -> None:
        limits = settings.limits
        self._speech = speech
        self._settings = settings
        self._places = Places("kept answers", limits.max_downloads, limits.max_downloads_per_key)

    def router(self) -> APIRouter:
        """To be included before the route of outcomes, whose ids may hold slashes."""
        router = APIRouter(tags=["kept answers"])
        add = router.add_api_route
        add(f"{_ONE}/audio", self.audio, methods=["GET"], response_class=Response, responses=_FAILURES | _AUDIO)
        add(f"{_ONE}/timeline", self.timeline, methods=["GET"], response_model=None, responses=_FAILURES)
        add(f"{_ONE}/receipt", self.receipt, methods=["GET"], responses=_FAILURES)
        add(f"{_ONE}/replay", self.replay, methods=["POST"], responses=_FAILURES)
        add(f"{_ONE}/turns/{{turn}}/regenerate", self.regenerate, methods=["POST"], responses=_FAILURES)
        add(_ONE, self.forget, methods=["DELETE"], status_code=204, responses=documented(401, 403, 422))
        return router

    async def audio(
        self,
        request: Request,
        request_id: str,
        format: str | None = None,
        sample_rate: int | None = None,
        turn: int | None = None,
        speaker: int | None = None,
    ) -> Response:
        """The answer in any format, from its codes: the whole, one turn, or one speaker's stem of the same length."""
        key, record = await self._record(request, request_id)
        coding = asked_coding(request, format, sample_rate, WAV)
        with self._places.taken(key.id):
            async with aclosing(self._kept().sound(record, turn, speaker)) as sound:
                pcm = b"".join([chunk async for chunk in sound])
            body = await encoded_whole(pcm, coding)
        name = f"{record.request_id}.{coding.format.extension}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return Response(body, media_type=coding.format.media_type, headers=headers | coding_headers(coding))

    async def timeline(self, request: Request, request_id: str, format: str = "json", by: str = "turn") -> Response:
        """When each turn was spoken, as a manifest or as subtitles. `by`: turn, part (an utterance) or word."""
        key, record = await self._record(request, request_id)
        if by not in ("turn", "part", "word"):
            raise InvalidRequest("by", "must be turn, part or word")
        lines: Sequence[TimedText | TimedWord] = timed_turns(record) if by == "turn" else timed_parts(record)
        if by == "word":
            with self._places.taken(key.id):
                lines = await self._kept().words(record)
        if format == "srt":
            return PlainTextResponse(srt(lines), media_type="application/x-subrip")
        if format == "vtt":
            return PlainTextResponse(vtt(lines), media_type="text/vtt")
        if format != "json":
            raise InvalidRequest("format", "must be json, srt or vtt")
        return JSONResponse(manifest(record, lines))

    async def receipt(self, request: Request, request_id: str) -> dict[str, Any]:
        """What the answer was made with, and hashes of what it was conditioned on and what came out."""
        _, record = await self._record(request, request_id)
        return receipt_of(record)

    async def replay(self, request: Request, request_id: str) -> dict[str, Any]:
        """Make the answer again, as its receipt says, and tell whether the codes are equal."""
        key, record = await self._record(request, request_id)
        verdict = await replayed(self._speech, record, Call(f"{request_id_of(request)}-replay", key))
        answer = asdict(verdict)
        return {"request_id": record.request_id, "equal": answer.pop("is_equal"), **answer}

    async def regenerate(self, request: Request, request_id: str, turn: int, body: RegenerateBody) -> dict[str, Any]:
        """Speak one turn anew. The others keep their samples. The answer is kept under a new request id."""
        key, record = await self._record(request, request_id)
        call = Call(request_id_of(request), key)
        new = await regenerated(self._speech, record, turn, seed_of(body.seed), call)
        keep = self._kept().keeper(key.id, None)
        if keep is not None:
            await keep(new)
        return manifest(new, timed_turns(new)) | {"notes": dict(new.notes)}

    async def forget(self, request: Request, request_id: str) -> None:
        """Delete the answer's record before its time."""
        key = key_of(request, Scope.SPEECH)
        if self._speech.records is not None:
            await self._speech.records.delete(key.id, kept_id(request_id))

    async def _record(self, request: Request, request_id: str) -> tuple[Key, Record]:
        key = key_of(request, Scope.SPEECH)
        if self._speech.records is None:
            raise UnknownRequest(request_id)
        return key, await self._speech.records.get(key.id, kept_id(request_id))

    def _kept(self) -> KeptRecords:
        assert self._speech.records is not None, "the record came from there"
        return self._speech.records


def manifest(record: Record, lines: Sequence[TimedText | TimedWord]) -> dict[str, Any]:
    """Times of a recorded answer, in frames of 80 ms and in seconds."""
    return {
        "request_id": record.request_id,
        "seed": record.seed,
        "finish_reason": record.finish_reason,
        "frames": record.num_frames,
        "seconds": record.audio_seconds,
        "frame_seconds": 1 / FRAME_RATE_HZ,
        "lines": [
            {**asdict(line), "start_seconds": line.start_seconds, "end_seconds": line.end_seconds} for line in lines
        ],
    }


def receipt_of(record: Record) -> dict[str, Any]:
    resumes = [
        {"part": number, **asdict(resume)} for number, part in enumerate(record.parts) for resume in part.resumes
    ]
    return {
        "request_id": record.request_id,
        "created_at": record.created_at,
        "server": __version__,
        "seed": record.seed,
        "model": dict(record.model),
        "adapters": dict(record.scene.get("adapters", {})),
        "sampling": record.scene["sampling"],
        "max_audio_seconds": record.scene["max_audio_seconds"],
        "context_sha256": record.context_hash,
        "codes_sha256": record.codes_hash,
        "frames": record.codes.num_frames,
        "finish_reason": record.finish_reason,
        "resumes": resumes,
        "notes": dict(record.notes),
    }


_AUDIO: dict[int | str, dict[str, Any]] = {200: {"content": AUDIO_CONTENT, "description": "The sound that was sent"}}
