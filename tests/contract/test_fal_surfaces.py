"""The ways to each surface, and addresses that lead back by them."""

import json
from collections.abc import Callable, Iterator

import httpx
import msgpack
import pytest
import websockets.sync.client

from tests.support.contract_server import Server, serving
from tests.support.waiting import until

APP = "/fal-ai/csm-1b"
HELLO = {"scene": [{"text": "one two", "speaker_id": 0}]}


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


Ask = Callable[..., httpx.Response]


def by_prefix(http: httpx.Client, surface: str, path: str, method: str = "POST", **more: object) -> httpx.Response:
    return http.request(method, f"/fal/{surface}{path}", **more)


def by_fals_hosts(http: httpx.Client, surface: str, path: str, method: str = "POST", **more: object) -> httpx.Response:
    return http.request(method, path, headers={"Host": FAL_HOSTS[surface]}, **more)


def by_our_hosts(http: httpx.Client, surface: str, path: str, method: str = "POST", **more: object) -> httpx.Response:
    host = "queue.speech.test:8000" if surface == "queue" else "speech.test:8000"
    return http.request(method, path, headers={"Host": host}, **more)


def by_proxy(http: httpx.Client, surface: str, path: str, method: str = "POST", **more: object) -> httpx.Response:
    target = {"x-fal-target-url": f"https://{FAL_HOSTS[surface]}{path}"}
    return http.request(method, "/api/fal/proxy", headers=target, **more)


FAL_HOSTS = {"run": "fal.run", "queue": "queue.fal.run", "rest": "rest.fal.ai", "cdn": "v3.fal.media"}
WAYS: list[tuple[Ask, dict[str, str]]] = [
    (by_prefix, {surface: f"{{origin}}/fal/{surface}" for surface in FAL_HOSTS}),
    (by_fals_hosts, {surface: f"https://{host}" for surface, host in FAL_HOSTS.items()}),
    (by_our_hosts, dict.fromkeys(FAL_HOSTS, "http://speech.test:8000") | {"queue": "http://queue.speech.test:8000"}),
    (by_proxy, {surface: f"{{origin}}/fal/{surface}" for surface in FAL_HOSTS}),
]
each_way = pytest.mark.parametrize(("ask", "bases"), WAYS, ids=lambda value: getattr(value, "__name__", ""))


@each_way
def test_addresses_lead_back_by_the_way_the_request_came(
    http: httpx.Client, server: Server, ask: Ask, bases: dict[str, str]
) -> None:
    base = {surface: template.format(origin=server.url) for surface, template in bases.items()}
    output = ask(http, "run", APP, json=HELLO).json()
    assert output["audio"]["url"].startswith(f"{base['cdn']}/files/")
    job = ask(http, "queue", APP, json=HELLO).json()
    jobs = f"{APP}/requests/{job['request_id']}"
    assert job["status"] == "IN_QUEUE"
    assert job["status_url"] == f"{base['queue']}{jobs}/status"
    assert job["response_url"] == f"{base['queue']}{jobs}"
    assert job["cancel_url"] == f"{base['queue']}{jobs}/cancel"
    until(lambda: ask(http, "queue", f"{jobs}/status", "GET").status_code != 202, "the job ends")
    status = ask(http, "queue", f"{jobs}/status?logs=1", "GET")
    assert status.json()["logs"]
    for path in (jobs, f"{jobs}/response"):
        result = ask(http, "queue", path, "GET")
        assert result.json()["audio"]["url"].startswith(f"{base['cdn']}/files/")
        assert result.headers["x-fal-request-id"] == job["request_id"]
    address = ask(http, "rest", "/storage/upload/initiate?storage_type=fal-cdn-v3", json={}).json()
    assert address["upload_url"].startswith(f"{base['cdn']}/upload/")
    token = ask(http, "rest", "/storage/auth/token?storage_type=fal-cdn-v3", json={}).json()
    assert token["base_url"] == base["cdn"]


@each_way
def test_every_surface_is_reached(http: httpx.Client, ask: Ask, bases: dict[str, str]) -> None:
    events = ask(http, "run", f"{APP}/stream", json=HELLO)
    assert events.headers["content-type"].startswith("text/event-stream")
    assert isinstance(ask(http, "rest", "/tokens/", json={"allowed_apps": ["csm-1b"]}).json(), str)
    assert ask(http, "rest", "/.well-known/jwks.json", "GET").json()["keys"]
    assert ask(http, "run", f"{APP}/any/path", json=HELLO).status_code == 200
    assert ask(http, "queue", f"{APP}/any/path", json=HELLO).json()["status"] == "IN_QUEUE"
    assert ask(http, "cdn", "/files/upload", content=b"x").json()["access_url"]
    for surface in ("run", "queue"):
        missing = ask(http, surface, "/fal-ai/flux", json=HELLO)
        assert (missing.status_code, list(missing.json())) == (404, ["detail"])


def test_a_bare_path_runs(http: httpx.Client) -> None:
    answer = http.post(APP, json=HELLO)
    assert "audio" in answer.json()
    assert answer.headers["x-csm-weights"] == "trained"


@pytest.mark.parametrize("path", ["/fal/run/fal-ai/csm-1b/realtime", "/fal-ai/csm-1b/realtime"])
def test_realtime_is_reached_with_and_without_the_prefix(server: Server, path: str) -> None:
    with websockets.sync.client.connect(f"ws://{server.host}{path}") as socket:
        socket.send(json.dumps(HELLO))
        assert msgpack.unpackb(socket.recv(timeout=20))["index"] == 0


def test_a_front_that_forwards_is_believed(http: httpx.Client) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "speech.example.com"}
    output = http.post(f"/fal/run{APP}", json=HELLO, headers=headers).json()
    assert output["audio"]["url"].startswith("https://speech.example.com/fal/cdn/files/")


def test_a_public_url_counts_for_every_way(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        serving(tmp_path_factory.mktemp("data"), public_url="https://speech.example.com/csm/") as server,
        httpx.Client(base_url=server.url, timeout=30) as http,
    ):
        for ask in (by_prefix, by_proxy):
            url = ask(http, "run", APP, json=HELLO).json()["audio"]["url"]
            assert url.startswith("https://speech.example.com/csm/fal/cdn/files/")
        url = http.post(APP, json=HELLO).json()["audio"]["url"]
        assert url.startswith("https://speech.example.com/csm/files/")


@pytest.mark.parametrize(
    "target",
    [
        "",
        "https://example.com/fal-ai/csm-1b",
        "http://fal.run/fal-ai/csm-1b",
        "https://fal.run.example.com/fal-ai/csm-1b",
        "https://fal.run@example.com/fal-ai/csm-1b",
        "https://fal.run:8443/fal-ai/csm-1b",
        "//fal.run/fal-ai/csm-1b",
        "https://[fal.run/",
        "https://fal.run/%ff",
        "file:///etc/passwd",
    ],
)
def test_the_proxy_forwards_nothing(http: httpx.Client, target: str) -> None:
    answer = http.post("/api/fal/proxy", json=HELLO, headers={"x-fal-target-url": target} if target else {})
    assert answer.status_code == 400
    assert "nothing is forwarded" in answer.json()["detail"]


def test_the_proxys_answers_are_not_cached(http: httpx.Client) -> None:
    """All of them have one address."""
    job = by_proxy(http, "queue", APP, json=HELLO).json()
    status = by_proxy(http, "queue", f"{APP}/requests/{job['request_id']}/status", "GET")
    assert status.headers["cache-control"] == "no-store"


def test_our_own_paths_are_not_led_elsewhere(http: httpx.Client) -> None:
    for host in ("queue.fal.run", "rest.fal.ai", "localhost"):
        assert http.get("/health", headers={"Host": host}).json() == {"status": "healthy"}
        assert http.get("/requests/unknown", headers={"Host": host}).status_code == 404


def test_pages_of_other_origins_may_call_and_read_the_headers(http: httpx.Client) -> None:
    asked = "authorization,content-type,x-fal-target-url,x-fal-queue-priority"
    headers = {
        "Origin": "http://page",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
    }
    for path in (f"/fal/run{APP}", "/api/fal/proxy", APP):
        allowed = http.options(path, headers=headers)
        assert allowed.status_code == 200
        assert set(asked.split(",")) <= set(allowed.headers["access-control-allow-headers"].replace(" ", "").split(","))
    answer = http.post(f"/fal/run{APP}", json={}, headers={"Origin": "http://page"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (422, "*")
    assert answer.headers["access-control-expose-headers"] == "*"
