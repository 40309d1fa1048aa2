"""The HTTP surface over fakes of the graph: by httpx, or message by message as an ASGI server would."""

import asyncio
import io
import json
import wave
from typing import Any

import httpx
from fastapi import FastAPI

from serve_app.api.app import build_api
from serve_app.settings import LimitSettings, SamplingSettings, Settings
from tests.support.fakes import FakeDecoder, FakeEncoder
from tests.support.speech import speech_service

HEADER_BYTES = 44


def api(
    decoder: FakeDecoder | None = None,
    encoder: FakeEncoder | None = None,
    sampling: SamplingSettings | None = None,
    **limits: Any,
) -> FastAPI:
    settings = Settings(limits=LimitSettings(**limits), sampling=sampling or SamplingSettings())
    return build_api(speech_service(decoder, encoder, settings), settings)


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://csm")


async def generate(app: FastAPI, **request: Any) -> httpx.Response:
    async with client(app) as http:
        return await http.post("/generate", **request)


def wav(num_samples: int = 24_000, value: int = 1000, rate: int = 24_000, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        cycle = [value.to_bytes(2, "little")] * 20 + [(-value).to_bytes(2, "little", signed=True)] * 20
        file.writeframes(b"".join(cycle[n % 40] * channels for n in range(num_samples)))
    return buffer.getvalue()


def samples_of(body: bytes) -> bytes:
    """Of a whole file, by Python's own reader, which checks the sizes."""
    with wave.open(io.BytesIO(body)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        return file.readframes(file.getnframes())


class Exchange:
    """One POST /generate as an ASGI server plays it; `sent` is what the app answered so far."""

    def __init__(self, app: FastAPI, body: dict[str, Any]) -> None:
        self.sent: list[dict[str, Any]] = []
        self.news = asyncio.Event()
        self.write_error: OSError | None = None
        self._has_left = asyncio.Event()
        self._bodies = [json.dumps(body).encode()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/generate",
            "raw_path": b"/generate",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json"), (b"x-request-id", b"exchange")],
            "client": ("127.0.0.1", 1),
            "server": ("csm", 80),
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    def disconnect(self) -> None:
        self._has_left.set()

    async def sent_at_least(self, num_messages: int) -> None:
        while len(self.sent) < num_messages:
            self.news.clear()
            await self.news.wait()

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent[1:]]

    @property
    def ended_cleanly(self) -> bool:
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)

    async def _receive(self) -> dict[str, Any]:
        if self._bodies:
            return {"type": "http.request", "body": self._bodies.pop(), "more_body": False}
        await self._has_left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self.write_error is not None:
            raise self.write_error
        self.sent.append(message)
        self.news.set()
