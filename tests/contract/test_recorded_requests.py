"""What clients send, byte for byte, over a socket. Each was recorded from the library that the client uses.

SillyTavern calls node-fetch 3, Open WebUI aiohttp and requests, and wyoming_openai (Home Assistant) OpenAI's SDK.
"""

import io
import json
import socket
import wave
from dataclasses import dataclass

import pytest

from tests.support.contract_server import Server
from tests.support.decoded import decoded

FRAME = 1920

SILLYTAVERN = (
    b"POST /v1/audio/speech HTTP/1.1\r\naccept: */*\r\naccept-encoding: gzip, deflate, br\r\n"
    b"authorization: Bearer \r\ncontent-length: 90\r\ncontent-type: application/json\r\nuser-agent: node-fetch\r\n"
    b"Host: 127.0.0.1:8000\r\nConnection: keep-alive\r\n\r\n"
    b'{"input":"Hello there.","response_format":"mp3","voice":"alloy","speed":1,"model":"tts-1"}'
)
OPEN_WEBUI = (
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer sk-none\r\nX-OpenWebUI-User-Name: Ann%20Example\r\nX-OpenWebUI-User-Id: 7d2f\r\n"
    b"X-OpenWebUI-User-Email: ann@example.com\r\nX-OpenWebUI-User-Role: user\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, deflate\r\nUser-Agent: Python/3.11 aiohttp/3.14.5\r\nContent-Length: 61\r\n\r\n"
    b'{"input": "Hello there.", "voice": "alloy", "model": "tts-1"}'
)
OPEN_WEBUI_LISTS = (
    b"GET /v1/audio/%s HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: python-requests/2.34.2\r\n"
    b"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n"
)
WYOMING_PROBES = (
    b"GET %s HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Connection: keep-alive\r\nUser-Agent: python-httpx2/2.16.2\r\n\r\n"
)
WYOMING = (
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Connection: keep-alive\r\naccept: application/octet-stream\r\ncontent-type: application/json\r\n"
    b"user-agent: CustomAsyncOpenAI/Python 3.57.0\r\nx-stainless-lang: python\r\n"
    b"x-stainless-package-version: 3.57.0\r\nx-stainless-os: Linux\r\nx-stainless-arch: x64\r\n"
    b"x-stainless-runtime: CPython\r\nx-stainless-runtime-version: 3.11.7\r\nx-stainless-async: async:asyncio\r\n"
    b"x-stainless-raw-response: stream\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n"
    b"Content-Length: 80\r\n\r\n"
    b'{"model":"tts-1","input":"Hello there.","voice":"alloy","response_format":"wav"}'
)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def connection(server: Server) -> socket.socket:
    host, port = server.host.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def answered(connection: socket.socket, request: bytes) -> Answer:
    """The answer to a request on a connection that stays open, so that its end must be marked."""
    connection.sendall(request)
    with connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        headers: dict[str, str] = {}
        while (line := stream.readline().strip().decode()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") != "chunked":
            return Answer(status, headers, stream.read(int(headers["content-length"])))
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return Answer(status, headers, body)


def test_sillytavern_gets_the_mp3_that_it_asks_for_and_may_ask_again(connection: socket.socket) -> None:
    with connection:
        for _ in range(2):
            answer = answered(connection, SILLYTAVERN)
            assert (answer.status, answer.headers["content-type"]) == (200, "audio/mpeg")
            assert "content-encoding" not in answer.headers
            assert len(decoded("mp3", answer.body)) >= 2 * FRAME


def test_open_webui_lists_what_there_is_and_stores_an_mp3(connection: socket.socket) -> None:
    with connection:
        models = json.loads(answered(connection, OPEN_WEBUI_LISTS % b"models").body)["models"]
        assert "tts-1" in [model["id"] for model in models]
        voices = json.loads(answered(connection, OPEN_WEBUI_LISTS % b"voices").body)["voices"]
        assert "alloy" in {voice["id"]: voice["name"] for voice in voices}
        answer = answered(connection, OPEN_WEBUI)
        assert (answer.status, answer.headers["content-type"]) == (200, "audio/mpeg")
        assert len(decoded("mp3", answer.body)) >= 2 * FRAME


def test_wyoming_takes_this_server_for_openais_and_streams_a_wav(connection: socket.socket) -> None:
    with connection:
        # LocalAI has the first, Kokoro-FastAPI the last; Speaches answers the second with the text OK.
        assert answered(connection, WYOMING_PROBES % b"/v1/readyz").status == 404
        assert answered(connection, WYOMING_PROBES % b"/health").body != b"OK"
        assert answered(connection, WYOMING_PROBES % b"/v1/test").status == 404
        answer = answered(connection, WYOMING)
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/wav")
    # Its sizes are not known when it begins.
    with wave.open(io.BytesIO(answer.body)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
    assert len(answer.body) - 44 == 2 * 2 * FRAME


def test_wyoming_in_kokoros_mode_finds_the_voices(connection: socket.socket) -> None:
    with connection:
        found = json.loads(answered(connection, WYOMING_PROBES % b"/v1/audio/voices").body)
    names = [voice.get("id") or voice.get("name") for voice in found["voices"]]
    assert {"0", "1", "alloy"} <= set(names)
    assert all(isinstance(name, str) for name in names)
