"""What users say, send and sign with is in no log line, whatever happens to their request."""

import base64
import io
import json
import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from serve_app import log
from serve_app.api.app import build_api
from serve_app.codec.decoder_service import DecoderService
from serve_app.codec.encoder_service import EncoderService
from serve_app.deployments.watched_generator import WatchedGenerator
from serve_app.engine.service import TokenService
from serve_app.messages import ModelInfo
from serve_app.settings import LimitSettings, Settings, StandInSettings
from serve_app.tracing import NO_TRACER
from tests.support import api_harness
from tests.support.recording_meter import RecordingMeter
from tests.support.speech import speech_service

MARK = "Zanzibar"
AUDIO = (MARK.encode() * 500)[:3840]
CLIP = base64.b64encode(api_harness.wav() + AUDIO).decode()
HEADERS = {"Authorization": f"Bearer {MARK}", "X-Request-Id": "req-1"}


class Graph:
    """The real services on stand-ins, in one process."""

    def __init__(self) -> None:
        settings = Settings(
            model="stand-in", stand_in=StandInSettings(frames=6), limits=LimitSettings(max_text_chars=100)
        )
        self._service = TokenService.load(settings)
        self.generate = WatchedGenerator(self._service, RecordingMeter(), NO_TRACER).generate
        self._decoder = DecoderService.load(settings, self)
        self._encoder = EncoderService.load(settings)
        self.app = build_api(speech_service(self._decoder, self._encoder, settings), settings)

    async def info(self) -> ModelInfo:
        return await self._service.info()

    def stop(self) -> None:
        for part in (self._encoder, self._decoder, self._service):
            part.stop()


@pytest.fixture
async def app() -> FastAPI:
    graph = Graph()
    yield graph.app
    graph.stop()


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All of it, with every field, as JSON: what was logged in the whole process, by whomever."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(EveryField())
    loggers = [logging.getLogger(), logging.getLogger(log.ROOT)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield stream
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


class EveryField(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        error = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        return json.dumps(record.__dict__ | {"message": record.getMessage(), "error": error}, default=repr)


REQUESTS: dict[str, dict[str, Any]] = {
    "spoken": {"text": f"{MARK}!", "context": [{"text": MARK, "audio": CLIP}]},
    "a scene": {"scene": [{"text": MARK, "speaker": 0}, {"text": MARK, "speaker": 1}], "streaming": True},
    "too long": {"text": MARK * 100},
    "audio that is none": {"text": MARK, "context": [{"text": MARK, "audio": MARK}]},
    "a field of the wrong kind": {"text": MARK, "temperature": MARK, MARK: MARK},
    "nothing to speak": {"text": "", MARK: MARK},
}

SPOKEN = [REQUESTS["spoken"], REQUESTS["a scene"]]


@pytest.mark.parametrize("body", REQUESTS.values(), ids=list(REQUESTS))
async def test_no_line_holds_what_a_user_sent(app: FastAPI, logged: io.StringIO, body: dict[str, Any]) -> None:
    response = await api_harness.generate(app, json=body, headers=HEADERS)
    lines = [line for line in logged.getvalue().splitlines() if '"name": "httpx"' not in line]
    assert response.status_code == (200 if body in SPOKEN else 422)
    for line in lines:
        assert MARK.lower() not in line.lower()
        assert base64.b64encode(MARK.encode() * 3).decode()[:20] not in line
    if body in SPOKEN:
        assert len([line for line in lines if "req-1" in line]) >= 3


async def test_a_bug_is_logged_without_the_request(app: FastAPI, logged: io.StringIO, monkeypatch: Any) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("serve_app.codec.decoder_service.DecoderService.stream", broken)
    response = await api_harness.generate(app, json=REQUESTS["spoken"], headers=HEADERS)
    assert response.status_code == 500
    assert "a bug" in logged.getvalue() and MARK not in logged.getvalue()
