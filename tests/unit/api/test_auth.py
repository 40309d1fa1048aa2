"""Who gets in, with what, and who is told what. Keys in a real database; what is behind them is fake."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, WebSocket

from serve_app.api.app import build_api
from serve_app.api.auth import key_of
from serve_app.errors import StorageFailed, Unauthorized
from serve_app.keys.key import ANONYMOUS, Key, Scope
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.settings import KeySettings, Settings
from serve_app.store.database import Database
from tests.support.api_harness import client
from tests.support.fakes import FakeDecoder, Utterance
from tests.support.speech import speech_service

SPEAK = {"text": "Hi."}
NO_SUCH_KEY = f"csm_{'0' * 16}:{'x' * 43}"
NO_KEY = "this is not a key: send all of it, ID:SECRET, as csm-serve keys create showed it"
ASKING = "a key is needed: send the header Authorization: Key ID:SECRET, or Bearer ID:SECRET"


class Keyed:
    """The HTTP surface of one ingress replica, as it is where keys are required."""

    def __init__(self, database: Database, decoder: FakeDecoder | None = None) -> None:
        self.keys = Keys(database, KeySettings(required=True))
        self.decoder = decoder or FakeDecoder()
        speech = speech_service(self.decoder, allowance=Allowance(database))
        self.app = build_api(speech, Settings(), self._metrics, self.keys)
        self.http = client(self.app)

    async def _metrics(self) -> str:
        return "csm_requests_live 0\n"

    async def speak(self, *headers: tuple[str, str | bytes], **body: Any) -> httpx.Response:
        return await self.http.post("/generate", json=SPEAK | body, headers=list(headers))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    yield database
    database.close()


@pytest.fixture
async def server(database: Database) -> AsyncIterator[Keyed]:
    keyed = Keyed(database)
    async with keyed.http:
        yield keyed


@pytest.fixture
def plaintext(server: Keyed) -> str:
    return server.keys.create("Ann")[1]


def authorization(plaintext: str, scheme: str = "Key") -> tuple[str, str]:
    return "Authorization", f"{scheme} {plaintext}"


@pytest.mark.parametrize("scheme", ["Key", "Bearer", "key", "BEARER", "Key "])
async def test_fals_and_openais_ways_of_sending_a_key_are_taken(server: Keyed, plaintext: str, scheme: str) -> None:
    assert (await server.speak(authorization(plaintext, scheme))).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        None, "", "Key", "Key ", "Bearer", "Basic a2V5", "{key}", "Key{key}", "Token {key}", "Digest {key}",
    ],
)  # fmt: skip
async def test_without_a_key_the_caller_is_told_how_to_send_one(
    server: Keyed, plaintext: str, value: str | None
) -> None:
    headers = [] if value is None else [("Authorization", value.format(key=plaintext))]
    answer = await server.speak(*headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["detail"] in (ASKING, NO_KEY)
    assert server.decoder.requests == []


@pytest.mark.parametrize(
    "value",
    [
        b"Key \xff\xfe:\x00", "Key ключ:секрет".encode(), b"Key csm_1:2, Key csm_3:4", b"Key " + b"a" * 1_000_000,
        b"Key " + b":" * 50_000, b"Bearer null", b"Bearer undefined", b"Key \tcsm:\t",
    ],
    ids=["bytes", "cyrillic", "joined", "huge", "colons", "null", "undefined", "tabs"],
)  # fmt: skip
async def test_what_is_no_key_is_refused_without_an_echo(server: Keyed, value: bytes) -> None:
    answer = await server.speak(("Authorization", value))
    assert answer.status_code == 401
    assert answer.json() == {"detail": NO_KEY}


async def test_several_headers_are_not_chosen_from(server: Keyed, plaintext: str) -> None:
    for headers in ([plaintext, plaintext], [NO_SUCH_KEY, plaintext], [plaintext, NO_SUCH_KEY]):
        answer = await server.speak(*(authorization(each) for each in headers))
        assert answer.status_code == 401
        assert answer.json()["detail"] == "there are several Authorization headers: send one"


async def test_an_unknown_id_a_wrong_secret_and_a_revoked_key_get_the_same_answer(
    server: Keyed, plaintext: str
) -> None:
    revoked, was_good = server.keys.create("Ben")
    server.keys.revoke(revoked.id)
    wrong = plaintext[:-2] + ("aa" if plaintext[-2:] != "aa" else "bb")
    answers = [await server.speak(authorization(each)) for each in (NO_SUCH_KEY, wrong, was_good)]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(answer.headers.items()) for answer in answers}) == 1


@pytest.mark.parametrize("name", ["key", "api_key", "token", "authorization", "fal_jwt_token", "access_token"])
async def test_a_key_in_the_address_does_not_count(server: Keyed, plaintext: str, name: str) -> None:
    """Addresses end up in logs and histories."""
    for value in (plaintext, f"Key {plaintext}"):
        assert (await server.http.post("/generate", params={name: value}, json=SPEAK)).status_code == 401


@pytest.mark.parametrize("name", ["X-API-Key", "Proxy-Authorization", "X-Authorization", "Cookie"])
async def test_a_key_in_another_header_does_not_count(server: Keyed, plaintext: str, name: str) -> None:
    assert (await server.speak((name, f"Key {plaintext}"))).status_code == 401


async def test_what_callers_send_cannot_stand_for_a_key(server: Keyed) -> None:
    assert (await server.speak(("csm.key", "anonymous"), ("X-Forwarded-For", "127.0.0.1"))).status_code == 401


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json", "/docs", "/", "/playground/page.js"])
async def test_probes_the_reference_and_the_page_need_no_key(server: Keyed, path: str) -> None:
    assert (await server.http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/generate"), ("GET", "/requests/1"), ("GET", "/info"), ("GET", "/metrics"), ("GET", "/nowhere"),
        ("POST", "/"), ("GET", "/playground/"), ("GET", "/playground/router.py"), ("PUT", "/playground/page.js"),
        ("POST", "/health"), ("GET", "/health/"), ("GET", "/%2fhealth"), ("GET", "/health/%2e%2e/info"),
        ("GET", "/info/%2e%2e/health"), ("GET", "/HEALTH"), ("GET", "/health%0a"), ("GET", "/health%00"),
        ("POST", "/fal/cdn/files/a/b"), ("GET", "/fal/cdn/files/a"), ("GET", "/fal/cdn/upload/a/b"),
        ("POST", "/fal/run/fal-ai/csm-1b"), ("POST", "/fal-ai/csm-1b"), ("PUT", "/fal/queue/upload/a/b"),
        ("POST", "/fal/rest/storage/upload/initiate"), ("DELETE", "/fal/cdn/files/a/b"),
    ],
)  # fmt: skip
async def test_everything_else_does(server: Keyed, method: str, path: str) -> None:
    """Also what does not exist: nobody finds out what is served."""
    answer = await server.http.request(method, path)
    assert (answer.status_code, answer.json()) == (401, {"detail": ASKING})


async def test_the_proxys_target_needs_a_key_whatever_the_proxys_address_looks_like(server: Keyed) -> None:
    """The path that counts is the one that routes see, after the shim has changed it."""
    targets = ["https://fal.run/fal-ai/csm-1b", "https://rest.fal.ai/tokens/", "https://queue.fal.run/health"]
    for target in targets:
        answer = await server.http.post("/api/fal/proxy", json={}, headers={"x-fal-target-url": target})
        assert answer.status_code == 401
    answer = await server.http.get("/health", headers={"x-fal-target-url": targets[0], "host": "fal.run"})
    assert answer.json() == {"status": "healthy"}


async def test_open_paths_stay_so_under_a_route_prefix(server: Keyed) -> None:
    """Serve's `route_prefix` comes as `root_path`, and as the beginning of the path."""
    transport = httpx.ASGITransport(server.app, root_path="/csm")
    async with httpx.AsyncClient(transport=transport, base_url="http://csm") as http:
        assert (await http.get("/csm/health")).status_code == 200
        assert (await http.post("/csm/generate", json=SPEAK)).status_code == 401


async def test_browsers_may_ask_before_they_send_a_key_and_may_read_the_refusal(server: Keyed) -> None:
    origin = {"Origin": "https://example.com"}
    asked = await server.http.options(
        "/generate",
        headers=origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"},
    )
    assert asked.status_code == 200
    assert "authorization" in asked.headers["access-control-allow-headers"]
    refused = await server.http.post("/generate", json=SPEAK, headers=origin)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "*")


async def test_the_refusal_comes_before_the_body_is_read(server: Keyed) -> None:
    sent = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was asked for")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/generate", "raw_path": b"/generate", "query_string": b"", "root_path": "",
        "headers": [(b"content-length", b"99999999999")], "client": ("127.0.0.1", 1), "server": ("csm", 80),
    }  # fmt: skip
    await server.app(scope, receive, send)
    assert sent[0]["status"] == 401


async def test_each_route_wants_its_scope(server: Keyed) -> None:
    _, speech = server.keys.create("speech", [Scope.SPEECH])
    _, metrics = server.keys.create("metrics", [Scope.METRICS])
    wrong = await server.speak(authorization(metrics))
    assert (wrong.status_code, wrong.json()["detail"]) == (
        403, "this key lacks the scope speech: use one that was created with --scope speech"
    )  # fmt: skip
    for plaintext, status in ((speech, 403), (metrics, 200)):
        answer = await server.http.get("/metrics", headers=dict([authorization(plaintext)]))
        assert answer.status_code == status
    for plaintext in (speech, metrics):
        assert (await server.http.get("/info", headers=dict([authorization(plaintext)]))).status_code == 200
    assert (await server.http.get("/requests/1", headers=dict([authorization(metrics)]))).status_code == 403


async def test_a_request_is_shown_to_its_own_key_only(server: Keyed, plaintext: str) -> None:
    _, other = server.keys.create("Ben")
    same_id = ("X-Request-Id", "mine")
    await server.speak(authorization(plaintext), same_id, seed=1)

    async def seen_by(key: str) -> Any:
        answer = await server.http.get("/requests/mine", headers=dict([authorization(key)]))
        return answer.status_code, answer.json().get("seed")

    assert await seen_by(plaintext) == (200, 1)
    assert await seen_by(other) == (404, None)
    await server.speak(authorization(other), same_id, seed=2)
    assert (await seen_by(plaintext), await seen_by(other)) == ((200, 1), (200, 2))


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_keys_requests_at_once_are_counted_over_replicas_and_refused_before_the_first_byte(
    database: Database, streaming: bool
) -> None:
    first, second = (Keyed(database, FakeDecoder(Utterance(stalls=True))) for _ in range(2))
    _, plaintext = first.keys.create("Ann", concurrency=2)
    header = authorization(plaintext)
    running = [asyncio.create_task(each.speak(header, streaming=streaming)) for each in (first, second)]
    for each in (first, second):
        await each.decoder.news.wait()
    for each in (first, second):
        answer = await each.speak(header, streaming=streaming)
        assert answer.status_code == 429 and answer.headers["retry-after"] in ("1", "2")
        assert answer.json() == {"detail": "this key may run 2 requests at once: wait until one has ended"}
        assert len(each.decoder.requests) == 1
    for task in running:
        task.cancel()
    await asyncio.wait(running)


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_answer_that_was_read_to_its_end_is_not_in_the_way_of_the_next(server: Keyed, streaming: bool) -> None:
    _, plaintext = server.keys.create("Ann", concurrency=1)
    for _ in range(5):
        assert (await server.speak(authorization(plaintext), streaming=streaming)).status_code == 200


async def test_audio_is_charged_as_it_was_spoken_and_not_as_it_might_have_been(server: Keyed) -> None:
    """ "Hi." may take 3.04 seconds and takes 0.32."""
    _, plaintext = server.keys.create("Ann", audio_seconds_per_minute=3.5)
    statuses = [(await server.speak(authorization(plaintext))).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    answer = await server.speak(authorization(plaintext))
    assert 1 <= int(answer.headers["retry-after"]) <= 7
    assert "3.5 seconds of audio a minute" in answer.json()["detail"]


async def test_a_request_that_the_engine_refuses_costs_nothing(database: Database) -> None:
    server = Keyed(database, FakeDecoder(*[Utterance(refusal=RuntimeError("a bug"))] * 5, Utterance()))
    _, plaintext = server.keys.create("Ann", audio_seconds_per_minute=2.6, concurrency=1)
    statuses = [(await server.speak(authorization(plaintext))).status_code for _ in range(6)]
    assert statuses == [500] * 5 + [200]


async def test_without_keys_everybody_is_anonymous_whatever_they_send(tmp_path: Path) -> None:
    app = build_api(speech_service(), Settings())
    async with client(app) as http:
        for headers in ({}, {"Authorization": "Key no:such"}, {"Authorization": "nonsense"}):
            assert (await http.post("/generate", json=SPEAK, headers=headers)).status_code == 200
        assert "security" not in (await http.get("/openapi.json")).json()


async def test_the_reference_asks_for_a_key_where_one_is_needed(server: Keyed) -> None:
    description = (await server.http.get("/openapi.json")).json()
    assert description["security"] == [{"key": []}]
    assert description["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


class Handshake:
    """A WebSocket's, as an ASGI server plays it."""

    def __init__(self, app: FastAPI, headers: list[tuple[bytes, bytes]], has_answers: bool) -> None:
        self.sent: list[dict[str, Any]] = []
        extensions = {"websocket.http.response": {}} if has_answers else {}
        scope = {
            "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws", "path": "/socket",
            "raw_path": b"/socket", "query_string": b"", "root_path": "", "headers": headers, "subprotocols": [],
            "client": ("127.0.0.1", 1), "server": ("csm", 80), "extensions": extensions,
        }  # fmt: skip
        self.done = app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


@pytest.fixture
def seen(server: Keyed) -> list[Key]:
    """The keys that came through to a WebSocket's route."""
    seen: list[Key] = []

    @server.app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        seen.append(key_of(websocket))
        await websocket.accept()

    return seen


async def test_a_websocket_needs_a_key_too(server: Keyed, seen: list[Key]) -> None:
    key, plaintext = server.keys.create("Ann")
    let_in = Handshake(server.app, [(b"authorization", f"Key {plaintext}".encode())], True)
    await let_in.done
    assert (let_in.sent[0]["type"], seen) == ("websocket.accept", [key])


async def test_a_websockets_handshake_is_refused_with_a_status_where_the_server_can(
    server: Keyed, seen: list[Key]
) -> None:
    refused, closed = (Handshake(server.app, [], has_answers) for has_answers in (True, False))
    await refused.done
    assert refused.sent[0]["status"] == 401
    assert json.loads(refused.sent[1]["body"]) == {"detail": ASKING}
    await closed.done
    assert [message["type"] for message in closed.sent] == ["websocket.close"]
    assert seen == []


async def test_something_else_may_stand_for_a_key(database: Database) -> None:
    """As fal's tokens do: asked before the header, and able to refuse."""
    from serve_app.api.auth import Authentication

    given = Key("csm_1", "token", frozenset({Scope.SPEECH}))

    async def ticket(connection: Any) -> Key | None:
        value = connection.query_params.get("ticket")
        if value == "stale":
            raise Unauthorized("this ticket is stale")
        return given if value == "good" else None

    seen: list[Key] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["csm.key"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    app = Authentication(inner, Keys(database, KeySettings()), [ticket])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://csm") as http:
        statuses = [
            (await http.get("/info", params={"ticket": value})).status_code for value in ("good", "stale", "none")
        ]
    assert (statuses, seen) == ([204, 401, 401], [given])


async def test_keys_that_cannot_be_looked_up_are_a_503(server: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_answer(sent: str) -> Key:
        raise StorageFailed("the database does not answer; try again later")

    monkeypatch.setattr(server.keys, "check", no_answer)
    for path in ("/generate", "/fal/queue/fal-ai/csm-1b"):
        answer = await server.http.post(path, json=SPEAK, headers=[authorization(NO_SUCH_KEY)])
        assert (answer.status_code, answer.json()["detail"]) == (503, "the database does not answer; try again later")


def test_nobody_is_anonymous_by_a_key_of_that_name(database: Database) -> None:
    key, _ = Keys(database, KeySettings()).create("anonymous")
    assert key.id != ANONYMOUS.id
