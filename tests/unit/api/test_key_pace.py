"""What one key may send: the rest of it waits, and nobody else."""

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from serve_app.api.auth import KEY_IN_SCOPE
from serve_app.api.key_pace import KeyPace, Pace
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.settings import KeySettings, LimitSettings
from tests.support.contract_server import serving


def test_a_burst_is_free_and_then_bytes_cost_time() -> None:
    now = 100.0
    pace = Pace(10, 30, lambda: now)
    assert [pace.delay("a", 10) for _ in range(5)] == [0, 0, 0, 1, 2]
    assert pace.delay("b", 10) == 0
    now += 100
    assert [pace.delay("a", 10) for _ in range(4)] == [0, 0, 0, 1]
    assert Pace(0, 30).delay("a", 10**12) == 0


async def _taken(pace: KeyPace, key: Key, kind: str, size: int) -> int:
    """The status; 200 where the app was called."""
    statuses = []

    async def receive() -> Message:
        return {"type": "http.request" if kind == "http" else "websocket.receive", "body": bytes(size)}

    async def send(message: Message) -> None:
        if "status" in message:
            statuses.append(message["status"])

    scope = {"type": kind, "path": "/generate", "method": "POST", "headers": [], KEY_IN_SCOPE: key}
    await pace(scope, receive, send)
    return statuses[0] if statuses else 200


async def test_a_key_that_sends_too_fast_is_slowed_down_and_another_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: dict[str, float] = {"many": 0.0, "one": 0.0, ANONYMOUS.id: 0.0}
    current = "many"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async def sleep(seconds: float) -> None:
        slept[current] += seconds

    monkeypatch.setattr("serve_app.api.key_pace.asyncio.sleep", sleep)
    pace = KeyPace(app, LimitSettings(max_body_bytes=2**20, bytes_per_second_per_key=2**20))
    for _ in range(8):
        await _taken(pace, Key("many", "m", frozenset()), "http", 2**20)
    current = "one"
    await _taken(pace, Key("one", "o", frozenset()), "websocket", 1000)
    current = ANONYMOUS.id
    for _ in range(8):
        await _taken(pace, ANONYMOUS, "http", 2**20)
    assert slept["many"] > 15
    assert slept["one"] == slept[ANONYMOUS.id] == 0


async def test_a_key_has_so_many_requests_at_once_in_an_ingress() -> None:
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()

    pace = KeyPace(app, LimitSettings(max_requests_per_key=2))
    many = Key("many", "m", frozenset())
    held = [asyncio.create_task(_taken(pace, many, "http", 10)) for _ in range(2)]
    await asyncio.sleep(0)
    assert await _taken(pace, many, "http", 10) == 429
    others = [asyncio.create_task(_taken(pace, key, "http", 10)) for key in (Key("one", "o", frozenset()), ANONYMOUS)]
    gate.set()
    assert await asyncio.gather(*held, *others) == [200] * 4
    assert await _taken(pace, many, "http", 10) == 200


async def test_a_key_that_is_refused_again_and_again_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: Counter[str] = Counter()
    current, status = "many", 429

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})

    async def sleep(seconds: float) -> None:
        slept[current] += round(seconds)

    monkeypatch.setattr("serve_app.api.key_pace.asyncio.sleep", sleep)
    pace = KeyPace(app, LimitSettings())
    for _ in range(8 + 4 * 4):  # the burst, and what four seconds let go
        await _taken(pace, Key("many", "m", frozenset()), "http", 10)
    current = "one"
    await _taken(pace, Key("one", "o", frozenset()), "http", 10)
    current = ANONYMOUS.id
    for _ in range(24):
        await _taken(pace, ANONYMOUS, "http", 10)
    current, status = "answered", 200
    for _ in range(24):
        await _taken(pace, Key("many", "m", frozenset()), "http", 10)
    assert slept["many"] > 20
    assert not any(slept[each] for each in ("one", ANONYMOUS.id, "answered"))


async def test_the_api_asks_it_after_the_key(tmp_path: Path) -> None:
    limits = LimitSettings(max_body_bytes=1024, bytes_per_second_per_key=1024)
    with serving(tmp_path, needs_keys=True, keys=KeySettings(required=True), limits=limits) as server:
        _, key = server.keys.create("Key")
        async with httpx.AsyncClient(base_url=server.url, timeout=0.5) as client:
            with pytest.raises(httpx.ReadTimeout):  # one request counts as 32 seconds of this pace
                await client.get("/voices", headers={"Authorization": f"Bearer {key}"})
            assert (await client.get("/voices")).status_code == 401
