"""ElevenLabs' sockets, message by message, as its clients use them."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from serve_app.keys.key import Scope
from serve_app.settings import LimitSettings
from tests.support.contract_server import Server, serving
from tests.support.waiting import until

DOCS = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists()) / "docs/api/elevenlabs.md"
ONE, MANY = "stream-input", "multi-stream-input"
PCM = "output_format=pcm_24000"
FRAME = 1920 * 2
SECONDS_A_FRAME = 0.08


def opened(server: Server, path: str, query: str = PCM, voice: str = "0", **headers: str) -> ClientConnection:
    url = f"{server.url.replace('http', 'ws')}/v1/text-to-speech/{voice}/{path}?{query}"
    return connect(url, additional_headers=headers, open_timeout=30, close_timeout=30)


def said(socket: ClientConnection, *messages: dict[str, Any]) -> None:
    for message in messages:
        socket.send(json.dumps(message))


def heard(socket: ClientConnection, context: str | None = None) -> list[dict[str, Any]]:
    """Messages up to the last of a context."""
    messages: list[dict[str, Any]] = []
    while not messages or not messages[-1].get("isFinal"):
        message = json.loads(socket.recv(timeout=30))
        assert "error" not in message, message
        if context is None or message["contextId"] == message["context_id"] == context:
            messages.append(message)
    return messages


def audio_of(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(message["audio"]) for message in messages if message["audio"])


def alignments(messages: list[dict[str, Any]], name: str = "alignment") -> list[tuple[str, int, int]]:
    """The characters of each, its first start and its last end, in milliseconds."""
    found = [message[name] for message in messages if message[name]]
    return [
        ("".join(one["chars"]), one["charStartTimesMs"][0], one["charStartTimesMs"][-1] + one["charDurationsMs"][-1])
        for one in found
    ]


def closed(socket: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed):
        while True:
            socket.recv(timeout=30)
    return socket.close_code


def test_a_text_that_comes_word_by_word_is_spoken_and_an_empty_text_ends_it(server: Server) -> None:
    with opened(server, ONE) as socket:
        said(socket, {"text": " ", "voice_settings": {"stability": 0.5, "similarity_boost": 0.8}})
        for word in re.findall(r"\S+", "One two three four. Five six seven eight."):
            said(socket, {"text": f"{word} ", "try_trigger_generation": True})
        said(socket, {"text": ""})
        messages = heard(socket)
        assert closed(socket) == 1000
    pause = 5 * FRAME
    assert len(audio_of(messages)) == 8 * FRAME + pause
    assert messages[-1] == {"audio": None, "isFinal": True, "alignment": None, "normalizedAlignment": None}


def test_a_clause_is_heard_before_the_text_has_ended(server: Server) -> None:
    with opened(server, ONE) as socket:
        said(socket, {"text": "One two three four, fi"})
        assert json.loads(socket.recv(timeout=30))["audio"]


def test_times_are_exact_where_a_part_ends_and_count_from_message_to_message(server: Server) -> None:
    texts = [{"text": "It is $5 now. Six seven eight nine ten."}, {"text": ""}]
    with opened(server, ONE) as socket:
        said(socket, *texts)
        messages = heard(socket)
    assert alignments(messages) == [("It is $5 now. ", 0, 400), ("Six seven eight nine ten.", 400, 800)]
    assert alignments(messages, "normalizedAlignment")[0] == ("It is five dollars now. ", 0, 400)
    with opened(server, ONE, f"{PCM}&sync_alignment=true") as socket:
        said(socket, *texts)
        assert alignments(heard(socket)) == [("It is $5 now. ", 0, 400), ("Six seven eight nine ten.", 800, 1200)]


def test_flush_speaks_what_has_come(server: Server) -> None:
    with opened(server, ONE) as socket:
        said(socket, {"text": "Hello ", "flush": True})
        assert json.loads(socket.recv(timeout=30))["audio"]


def test_in_auto_mode_a_message_is_a_sentence(server: Server) -> None:
    with opened(server, MANY, f"{PCM}&auto_mode=true") as socket:
        said(socket, {"text": "Hello there.", "context_id": "a"})
        assert json.loads(socket.recv(timeout=30))["contextId"] == "a"


def test_contexts_speak_beside_one_another_and_end_by_themselves(server: Server) -> None:
    with opened(server, MANY) as socket:
        for name in ("a", "b"):
            said(
                socket,
                {"text": " ", "context_id": name, "voice_settings": {}},
                {"text": "One two three ", "context_id": name},
            )
        said(socket, {"context_id": "b", "flush": True}, {"text": "", "context_id": "a"}, {"text": ""})
        said(socket, {"context_id": "b", "close_context": True})
        assert len(audio_of(heard(socket, "b"))) == 3 * FRAME
        said(socket, {"text": "four.", "context_id": "a"}, {"context_id": "a", "close_context": True})
        assert len(audio_of(heard(socket, "a"))) == 4 * FRAME
        said(socket, {"text": "Once more.", "context_id": "a"}, {"close_socket": True})
        assert len(audio_of(heard(socket, "a"))) == 2 * FRAME
        assert closed(socket) == 1000


def test_a_context_that_was_never_opened_can_be_closed(server: Server) -> None:
    with opened(server, MANY) as socket:
        said(socket, {"context_id": "a", "close_context": True})
        assert heard(socket, "a")


def test_an_error_of_one_context_leaves_the_others_alone(server: Server) -> None:
    with opened(server, MANY) as socket:
        said(socket, {"text": "Please breakdown. ", "context_id": "bad", "flush": True})
        while "error" not in (told := json.loads(socket.recv(timeout=30))):
            pass
        assert (told["contextId"], told["code"]) == ("bad", 1008)
        assert told["error"].startswith("internal_error: ")
        said(socket, {"text": "Hi.", "context_id": "good"}, {"context_id": "good", "close_context": True})
        assert heard(socket, "good")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("no json", "body: is not valid JSON"),
        ("[]", "body: must be a JSON object"),
        ('{"text": 3}', "text: must be a string"),
        ('{"text": " ", "voice_settings": {"stability": 9}}', "voice_settings.stability: must be from 0 to 1"),
        ('{"text": " ", "voice_settings": {"speed": 9}}', "speed: must be from 0.25 to 4"),
        ('{"text": "x", "generation_config": {"chunk_length_schedule": "x"}}', "chunk_length_schedule: must be a list"),
    ],
    ids=["no JSON", "a list", "a number", "stability", "speed", "schedule"],
)  # fmt: skip
def test_what_is_wrong_is_told_before_the_socket_is_closed(server: Server, message: str, told: str) -> None:
    with opened(server, ONE) as socket:
        socket.send(message)
        answer = json.loads(socket.recv(timeout=30))
        assert told in answer["message"]
        assert (answer["error"], answer["code"], closed(socket)) == ("invalid_request", 1008, 1008)


@pytest.mark.parametrize(
    ("voice", "query", "word"),
    [
        ("nobody", PCM, "voice_not_found"),
        ("0", "output_format=mp4", "invalid_request"),
        ("0", "seed=x", "invalid_request"),
    ],
    ids=["voice", "format", "seed"],
)  # fmt: skip
def test_a_wrong_address_is_refused_in_a_message(server: Server, voice: str, query: str, word: str) -> None:
    with opened(server, ONE, query, voice) as socket:
        assert json.loads(socket.recv(timeout=30))["error"] == word
        assert closed(socket) == 1008


def test_without_text_for_the_inactivity_timeout_the_socket_is_closed(server: Server) -> None:
    with opened(server, ONE, f"{PCM}&inactivity_timeout=1") as socket:
        said(socket, {"text": "Not yet"})
        assert json.loads(socket.recv(timeout=30))["error"] == "input_timeout_exceeded"
        assert closed(socket) == 1008
    with opened(server, MANY, f"{PCM}&inactivity_timeout=1") as socket:
        said(socket, {"text": "Not yet", "context_id": "a"})
        assert len(audio_of(heard(socket, "a"))) == 2 * FRAME
        assert closed(socket) == 1000


def test_a_client_that_leaves_frees_its_slots(server: Server) -> None:
    with opened(server, MANY) as socket:
        for name in ("a", "b"):
            said(socket, {"text": "Please waitforever.", "context_id": name, "flush": True})
        until(lambda: server.decoder.num_open == 2, "both are spoken")
    until(lambda: server.decoder.num_open == 0, "every slot is free")


def test_a_socket_needs_a_key_and_counts_against_its_limits(tmp_path: Path) -> None:
    limits = LimitSettings(max_sockets_per_key=1)
    with serving(tmp_path, needs_keys=True, limits=limits) as server:
        _, key = server.keys.create("Ann", scopes=frozenset({Scope.SPEECH}))
        with pytest.raises(InvalidStatus) as refused:
            opened(server, ONE).close()
        assert refused.value.response.status_code == 401
        detail = json.loads(refused.value.response.body or b"")["detail"]
        assert detail["status"] == "invalid_api_key"
        with opened(server, ONE, **{"xi-api-key": key}), opened(server, MANY, **{"xi-api-key": key}) as second:
            assert json.loads(second.recv(timeout=30))["error"] == "too_many_concurrent_requests"
            assert closed(second) == 1013


def test_the_example_in_the_docs_works(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [part.partition("```")[0] for part in DOCS.read_text().split("```python\n")[1:]]
    example = next(example for example in examples if "websockets" in example)
    monkeypatch.chdir(tmp_path)
    exec(example.replace("ws://localhost:8000", server.url.replace("http", "ws")), {})
    assert len((tmp_path / "hello.pcm").read_bytes()) >= 8 * FRAME


@pytest.fixture(autouse=True)
def no_slot_stays_open(server: Server) -> Iterator[None]:
    yield
    until(lambda: server.decoder.num_open == 0, "every slot is free")
