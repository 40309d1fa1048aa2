"""A kept voice in ElevenLabs' dialect: by id and by name, over HTTP and over both sockets."""

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from websockets.sync.client import connect

from serve_app.settings import KeySettings
from tests.support.contract_server import Server, serving
from tests.support.sounds import speech_like

NAME = "Ann's voice"
WORDS = "These are the words."


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("voices")
    with serving(folder, needs_keys=True, keys=KeySettings(cached_seconds=0)) as server:
        yield server


@pytest.fixture(scope="module")
def key(guarded: Server) -> str:
    return guarded.keys.create("Ann")[1]


@pytest.fixture(scope="module")
def http(guarded: Server, key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, headers={"xi-api-key": key}, timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def voice_id(http: httpx.Client) -> str:
    body = {
        "name": NAME,
        "clips": [{"text": WORDS, "audio": base64.b64encode(speech_like(4.0)).decode()}],
        "consent": {"statement": "I agree that my voice is used here.", "by": "Ann Example"},
        "audition": False,
    }
    answer = http.post("/voices", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


@pytest.fixture(params=["id", "name", "name in capitals"])
def said_as(request: pytest.FixtureRequest, voice_id: str) -> str:
    return {"id": voice_id, "name": NAME, "name in capitals": NAME.upper()}[request.param]


def last_voice(server: Server) -> list[str]:
    """The transcripts that the last request was conditioned on."""
    return [segment.text for segment in server.decoder.requests[-1].context]


@pytest.mark.parametrize("path", ["", "/stream", "/with-timestamps", "/stream/with-timestamps"])
def test_it_speaks_over_http(http: httpx.Client, guarded: Server, said_as: str, path: str) -> None:
    guarded.decoder.requests.clear()
    answer = http.post(f"/v1/text-to-speech/{quote(said_as)}{path}", json={"text": "Hello there."})
    assert answer.status_code == 200, answer.text
    assert last_voice(guarded) == [WORDS]


@pytest.mark.parametrize("path", ["stream-input", "multi-stream-input"])
def test_it_speaks_over_sockets(guarded: Server, key: str, said_as: str, path: str) -> None:
    guarded.decoder.requests.clear()
    url = f"{guarded.url.replace('http', 'ws')}/v1/text-to-speech/{quote(said_as)}/{path}?output_format=pcm_24000"
    messages = [{"text": "Hello there. ", "context_id": "one"}, {"text": "", "context_id": "one"}]
    if path == "multi-stream-input":
        messages[1] = {"context_id": "one", "close_context": True}  # type: ignore[dict-item]
    with connect(url, additional_headers={"xi-api-key": key}) as socket:
        for message in messages:
            socket.send(json.dumps(message))
        audio = b""
        while not (heard := json.loads(socket.recv(timeout=30))).get("isFinal"):
            assert "error" not in heard, heard
            audio += base64.b64decode(heard["audio"] or "")
    assert len(audio) == 2 * 1920 * 2
    assert last_voice(guarded) == [WORDS]


def test_it_is_listed_first_and_told(http: httpx.Client, voice_id: str) -> None:
    first = http.get("/v1/voices").json()["voices"][0]
    assert (first["voice_id"], first["name"], first["category"], first["is_owner"]) == (voice_id, NAME, "cloned", True)
    for known in (voice_id, NAME):
        assert http.get(f"/v1/voices/{quote(known)}").json()["voice_id"] == voice_id


def test_another_key_neither_sees_nor_speaks_with_it(guarded: Server, voice_id: str) -> None:
    headers = {"xi-api-key": guarded.keys.create("Stranger")[1]}
    with httpx.Client(base_url=guarded.url, headers=headers, timeout=30) as stranger:
        assert voice_id not in {voice["voice_id"] for voice in stranger.get("/v1/voices").json()["voices"]}
        for known in (voice_id, NAME):
            answer = stranger.post(f"/v1/text-to-speech/{quote(known)}", json={"text": "Hello."})
            assert (answer.status_code, answer.json()["detail"]["status"]) == (404, "voice_not_found")


def test_a_deleted_voice_is_unknown_at_once(http: httpx.Client, guarded: Server) -> None:
    clip = {"text": WORDS, "audio": base64.b64encode(speech_like(4.0)).decode()}
    consent = {"statement": "I agree that my voice is used here.", "by": "Bob Example"}
    body = {"name": "Bob", "clips": [clip], "consent": consent, "audition": False}
    kept = http.post("/voices", json=body).json()["id"]
    assert http.post(f"/v1/text-to-speech/{kept}", json={"text": "Hello."}).status_code == 200
    assert http.delete(f"/voices/{kept}").status_code in (200, 204)
    for known in (kept, "Bob"):
        answer = http.post(f"/v1/text-to-speech/{known}", json={"text": "Hello."})
        assert (answer.status_code, answer.json()["detail"]["status"]) == (404, "voice_not_found")
