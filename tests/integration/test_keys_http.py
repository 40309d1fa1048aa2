"""Keys on a real Serve, with two ingress replicas that share one database."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
import websockets
from ray import serve

from serve_app import app
from serve_app.keys.key import Scope
from serve_app.keys.keys import Keys
from serve_app.settings import EngineSettings, KeySettings, Settings, StandInSettings
from serve_app.store.database import Database
from tests.support.ray_server import SharedRay, shared_ray, start_ray, stop_ray

BODY = {"text": "Hello there.", "max_audio_seconds": 0.8}
LONG = {"text": "Hello there, and all that comes after it.", "max_audio_seconds": 8}
"""Four seconds of work: the first is not over when the last arrives."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        model="stand-in",
        stand_in=StandInSettings(frames=100, step_ms_by_batch={1: 40}),
        data_dir=tmp_path_factory.mktemp("data"),
        engine=EngineSettings(max_batch_size=8, max_waiting=32),
    )


@pytest.fixture
def listens_everywhere() -> Iterator[None]:
    """A Serve of its own that others can reach, without an application."""
    shared_ray.stop()
    start_ray(host="0.0.0.0")
    yield
    stop_ray()


@pytest.fixture(scope="module", autouse=True)
def two_ingresses() -> Iterator[None]:
    """And no second try where one of them cannot start."""
    usual = app.deployment_options

    def options(settings: Settings) -> dict[str, dict[str, Any]]:
        options = usual(settings)
        ingress = {name: value for name, value in options["Ingress"].items() if name != "autoscaling_config"}
        return options | {"Ingress": ingress | {"num_replicas": 2, "max_constructor_retry_count": 1}}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(app, "deployment_options", options)
        yield


@pytest.fixture(scope="module")
def keyed(ray_of_session: SharedRay, settings: Settings) -> str:
    """Host and port of a server that wants keys."""
    required = settings.model_copy(update={"keys": KeySettings(required=True, cached_seconds=1)})
    server = ray_of_session.serving("keys", lambda: app.build_graph(required))
    return server.url.removeprefix("http://")


@pytest.fixture
def keys(settings: Settings) -> Iterator[Keys]:
    """As the command line has them: another process, the same database."""
    database = Database.open(settings.database_url)
    yield Keys(database, settings.keys)
    database.close()


def bearer(plaintext: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {plaintext}"}


@pytest.mark.slow
@pytest.mark.usefixtures("listens_everywhere")
def test_a_server_that_others_reach_does_not_start_without_keys(settings: Settings) -> None:
    with pytest.raises(RuntimeError):
        serve.run(app.build_graph(settings), name="csm", route_prefix="/")
    statuses = serve.status().applications["csm"].deployments.values()
    [message] = [status.message for status in statuses if "without keys" in status.message]
    assert "listening on 0.0.0.0 without keys" in message


def test_who_has_no_key_gets_nothing_and_who_has_one_is_heard(keyed: str, keys: Keys) -> None:
    _, plaintext = keys.create("Ann")
    with httpx.Client(base_url=f"http://{keyed}", timeout=60) as http:
        assert http.post("/generate", json=BODY).status_code == 401
        assert http.post("/generate", content=b"\0" * 50_000_000).status_code == 401
        assert http.get("/health").status_code == 200
        for header in (bearer(plaintext), {"Authorization": f"Key {plaintext}"}):
            for streaming in (True, False):
                answer = http.post("/generate", json=BODY | {"streaming": streaming}, headers=header)
                assert (answer.status_code, len(answer.content)) == (200, 44 + 10 * 3840)
        assert http.get("/metrics", headers=bearer(plaintext)).status_code == 403
        _, prometheus = keys.create("Prometheus", [Scope.METRICS])
        assert http.get("/metrics", headers=bearer(prometheus)).status_code == 200


async def test_a_websocket_without_a_key_is_refused_at_its_handshake(keyed: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with websockets.connect(f"ws://{keyed}/fal/run/fal-ai/csm-1b/realtime"):
            pass
    assert refused.value.response.status_code in (401, 403)


async def test_a_keys_limit_holds_over_both_replicas_and_is_free_again_afterwards(keyed: str, keys: Keys) -> None:
    _, plaintext = keys.create("Ann", concurrency=3)
    async with httpx.AsyncClient(base_url=f"http://{keyed}", timeout=60, headers=bearer(plaintext)) as http:
        answers = await asyncio.gather(*(http.post("/generate", json=LONG) for _ in range(20)))
        assert Counter(answer.status_code for answer in answers) == {200: 3, 429: 17}
        assert {answer.headers.get("retry-after") for answer in answers} == {None, "1", "2"}
        again = await asyncio.gather(*(http.post("/generate", json=BODY) for _ in range(3)))
        assert [answer.status_code for answer in again] == [200] * 3


def test_a_revoked_key_is_refused_by_both_replicas_once_their_caches_end(keyed: str, keys: Keys) -> None:
    key, plaintext = keys.create("Ann")
    with httpx.Client(base_url=f"http://{keyed}", timeout=60, headers=bearer(plaintext)) as http:
        assert [http.get("/info").status_code for _ in range(10)] == [200] * 10
        keys.revoke(key.id)
        deadline = time.monotonic() + 30
        while {http.get("/info").status_code for _ in range(10)} != {401}:
            assert time.monotonic() < deadline, "a revoked key is still taken after thirty seconds"
            time.sleep(0.1)


def test_no_secret_reaches_a_log(keyed: str, keys: Keys) -> None:
    _, plaintext = keys.create("Ann")
    secret = plaintext.partition(":")[2]
    httpx.get(f"http://{keyed}/info", headers=bearer(plaintext))
    httpx.get(f"http://{keyed}/info", params={"key": plaintext}, headers=bearer(plaintext[:-2]))
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    read = {path: path.read_text(errors="replace") for path in logs.rglob("*") if path.is_file()}
    assert any("GET /info" in text or "/info" in text for text in read.values()), "the right logs are read"
    assert [path for path, text in read.items() if secret[:-2] in text] == []
