"""Keys on every surface: who may, who may not, and what stands in for a key."""

import asyncio
import json
from collections.abc import Callable, Iterator

import fal_client
import fal_client.client
import httpx
import msgpack
import pytest
import websockets

from serve_app.keys.key import Scope
from serve_app.settings import JobSettings, KeySettings
from tests.support.contract_server import Server, serving

APP = "fal-ai/csm-1b"
HELLO = {"scene": [{"text": "one two", "speaker_id": 0}]}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("data")
    with serving(
        folder, needs_keys=True, jobs=JobSettings(poll_seconds=0.02), keys=KeySettings(cached_seconds=0)
    ) as server:
        yield server


@pytest.fixture(scope="module")
def key(guarded: Server) -> str:
    return guarded.keys.create("usual")[1]


@pytest.fixture
def http(guarded: Server, key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, headers={"Authorization": f"Key {key}"}, timeout=30) as http:
        yield http


SURFACES = [
    ("POST", "/fal/run/fal-ai/csm-1b"),
    ("POST", "/fal/run/fal-ai/csm-1b/stream"),
    ("POST", "/fal-ai/csm-1b"),
    ("POST", "/fal/queue/fal-ai/csm-1b"),
    ("GET", "/fal/queue/fal-ai/csm-1b/requests/x/status"),
    ("GET", "/fal/queue/fal-ai/csm-1b/requests/x/status/stream"),
    ("GET", "/fal/queue/fal-ai/csm-1b/requests/x"),
    ("PUT", "/fal/queue/fal-ai/csm-1b/requests/x/cancel"),
    ("POST", "/fal/rest/storage/upload/initiate"),
    ("POST", "/fal/rest/storage/upload/initiate-multipart"),
    ("POST", "/fal/rest/storage/auth/token"),
    ("POST", "/fal/rest/tokens/"),
    ("POST", "/fal/cdn/files/upload"),
    ("POST", "/fal/cdn/files/upload/multipart"),
    ("PUT", "/fal/cdn/files/x/a.wav/multipart/y/1"),
    ("POST", "/fal/cdn/files/x/a.wav/multipart/y/complete"),
    ("POST", "/storage/upload/initiate"),
]


@pytest.mark.parametrize(("method", "path"), SURFACES, ids=lambda value: value)
def test_without_a_good_key_nothing_is_done(guarded: Server, key: str, method: str, path: str) -> None:
    wrong = f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}"
    for headers in ({}, {"Authorization": f"Key {wrong}"}, {"Authorization": "Bearer a.b.c"}):
        answer = httpx.request(method, guarded.url + path, headers=headers, json=HELLO if method == "POST" else None)
        assert answer.status_code == 401, headers
        assert isinstance(answer.json()["detail"], str)


def test_the_proxy_wants_a_key_too(guarded: Server) -> None:
    headers = {"x-fal-target-url": f"https://fal.run/{APP}"}
    assert httpx.post(f"{guarded.url}/api/fal/proxy", headers=headers, json=HELLO).status_code == 401


def test_what_tells_nobody_anything_is_open(guarded: Server) -> None:
    for path in ("/.well-known/jwks.json", "/fal/rest/.well-known/jwks.json"):
        assert httpx.get(guarded.url + path).json()["keys"][0]["crv"] == "Ed25519"
    assert httpx.get(f"{guarded.url}/fal/cdn/files/{'x' * 32}/a.wav").status_code == 404


def test_both_spellings_of_a_key_are_read(guarded: Server, key: str) -> None:
    for scheme in ("Key", "Bearer"):
        answer = httpx.post(
            f"{guarded.url}/fal/run/{APP}", json=HELLO, headers={"Authorization": f"{scheme} {key}"}, timeout=30
        )
        assert answer.status_code == 200


def test_a_job_is_its_own_keys(guarded: Server, http: httpx.Client) -> None:
    job = http.post(f"/fal/queue/{APP}", json=HELLO).json()
    other = {"Authorization": f"Key {guarded.keys.create('other')[1]}"}
    for method, url in (("GET", job["status_url"]), ("GET", job["response_url"]), ("PUT", job["cancel_url"])):
        assert httpx.request(method, url, headers=other).status_code == 404
    assert http.get(job["status_url"]).status_code in (200, 202)


def test_a_scope_opens_its_own_surfaces_only(guarded: Server) -> None:
    speech, files = (
        {"Authorization": f"Key {guarded.keys.create(scope, [scope])[1]}"} for scope in (Scope.SPEECH, Scope.FILES)
    )
    run, upload = f"{guarded.url}/fal/run/{APP}", f"{guarded.url}/fal/rest/storage/upload/initiate"
    assert httpx.post(run, json=HELLO, headers=speech).status_code == 200
    assert httpx.post(run, json=HELLO, headers=files).status_code == 403
    assert httpx.post(upload, json={}, headers=files).status_code == 200
    assert httpx.post(upload, json={}, headers=speech).status_code == 403


def test_a_token_speaks_for_its_key_on_run_alone(guarded: Server, http: httpx.Client) -> None:
    token = http.post("/fal/rest/tokens/", json={"allowed_apps": ["csm-1b"], "token_expiration": 120}).json()
    assert httpx.post(f"{guarded.url}/fal/run/{APP}?fal_jwt_token={token}", json=HELLO).status_code == 200
    for path in (f"/fal/queue/{APP}", "/fal/rest/storage/upload/initiate", "/fal/cdn/files/upload"):
        assert httpx.post(f"{guarded.url}{path}?fal_jwt_token={token}", json=HELLO).status_code == 401
        assert (
            httpx.post(f"{guarded.url}{path}", json=HELLO, headers={"Authorization": f"Bearer {token}"}).status_code
            == 401
        )
    assert httpx.post(f"{guarded.url}/fal/run/{APP}?fal_jwt_token={token[:-2]}", json=HELLO).status_code == 401


def test_a_token_for_another_app_is_not_given_out(http: httpx.Client) -> None:
    answer = http.post("/fal/rest/tokens/", json={"allowed_apps": ["flux"]})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "allowed_apps"])


def test_an_upload_token_stores_files_and_no_more(guarded: Server, http: httpx.Client) -> None:
    token = http.post("/fal/rest/storage/auth/token?storage_type=fal-cdn-v3", json={}).json()
    bearer = {"Authorization": f"{token['token_type']} {token['token']}"}
    stored = httpx.post(f"{token['base_url']}/files/upload", content=b"abc", headers=bearer)
    assert httpx.get(stored.json()["access_url"]).content == b"abc"
    assert httpx.post(f"{guarded.url}/fal/run/{APP}", json=HELLO, headers=bearer).status_code == 401
    assert httpx.post(f"{guarded.url}/fal/run/{APP}?fal_jwt_token={token['token']}", json=HELLO).status_code == 401


def test_a_revoked_keys_token_is_worth_nothing(guarded: Server) -> None:
    key, plaintext = guarded.keys.create("short-lived")
    header = {"Authorization": f"Key {plaintext}"}
    token = httpx.post(f"{guarded.url}/fal/rest/tokens/", json={}, headers=header).json()
    guarded.keys.revoke(key.id)
    assert httpx.post(f"{guarded.url}/fal/run/{APP}?fal_jwt_token={token}", json=HELLO).status_code == 401


def test_a_signed_address_takes_the_bytes_without_a_key(guarded: Server, http: httpx.Client) -> None:
    body = {"file_name": "a b.txt", "content_type": "text/plain"}
    address = http.post("/storage/upload/initiate?storage_type=fal-cdn-v3", json=body).json()
    path, _, query = address["upload_url"].partition("?")
    other = path.replace("/upload/", "/upload/x")
    forged = query.replace("type=text%2Fplain", "type=text%2Fhtml")
    assert forged != query
    for url in (path, f"{path}?{forged}", f"{other}?{query}", f"{path}?{query[:-1]}"):
        assert httpx.put(url, content=b"no").status_code == 403
    assert httpx.put(address["upload_url"], content=b"yes").status_code == 200
    assert httpx.get(address["file_url"]).text == "yes"


def test_an_exhausted_key_is_told_when_to_come_again(guarded: Server) -> None:
    plaintext = guarded.keys.create("poor", audio_seconds_per_minute=10)[1]
    header = {"Authorization": f"Key {plaintext}"}
    long = {"scene": [{"text": "word " * 100, "speaker_id": 0}]}
    first, second = (
        httpx.post(f"{guarded.url}/fal/run/{APP}", json=long, headers=header, timeout=30) for _ in range(2)
    )
    assert (first.status_code, second.status_code) == (200, 429)
    assert int(second.headers["retry-after"]) > 0


async def test_realtime_wants_a_key(guarded: Server, key: str) -> None:
    url = f"ws://{guarded.host}/fal/run/{APP}/realtime"
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(url)
    assert refused.value.response.status_code in (401, 403)
    async with websockets.connect(url, additional_headers={"Authorization": f"Key {key}"}) as socket:
        await socket.send(msgpack.packb(HELLO))
        assert msgpack.unpackb(await socket.recv())["index"] == 0


async def test_realtime_says_no_to_a_key_for_files(guarded: Server) -> None:
    files = guarded.keys.create("files", [Scope.FILES])[1]
    url = f"ws://{guarded.host}/fal/run/{APP}/realtime"
    async with websockets.connect(url, additional_headers={"Authorization": f"Key {files}"}) as socket:
        assert json.loads(await socket.recv())["error"] == "Unauthorized"
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


async def test_fals_client_works_with_a_key(guarded: Server, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = f"{guarded.url}/fal"
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{base}/queue/")
    monkeypatch.setattr(fal_client.client, "REALTIME_URL_FORMAT", f"ws://{guarded.host}/fal/run/")
    monkeypatch.setattr(fal_client.client, "REST_URL", f"{base}/rest")
    monkeypatch.setattr(fal_client.client, "CDN_URL", f"{base}/cdn")
    client = fal_client.AsyncClient(key=key)
    output, url = await asyncio.gather(client.subscribe(APP, arguments=HELLO), client.upload(b"abc", "text/plain"))
    assert output["audio"]["url"].startswith(f"{base}/cdn/files/")
    assert url.startswith(f"{base}/cdn/files/")
    async with client.realtime(APP) as connection:  # by a token
        await connection.send(HELLO)
        assert (await connection.recv())["index"] == 0


def test_parts_are_taken_from_whoever_began_the_upload_alone(guarded: Server, http: httpx.Client) -> None:
    """Not even where the file is gone again, whose address others know."""
    begun = http.post("/fal/cdn/files/upload/multipart").json()
    parts = f"{begun['access_url']}/multipart/{begun['uploadId']}"
    part = http.put(f"{parts}/1", content=b"mine").json()
    assert http.post(f"{parts}/complete", json={"parts": [part]}).status_code == 200
    assert begun["uploadId"] not in http.get(begun["access_url"]).headers["etag"]
    guarded.expire(begun["access_url"])
    assert http.get(begun["access_url"]).status_code == 404
    theirs = {"Authorization": f"Key {guarded.keys.create('another')[1]}"}
    assert httpx.put(f"{parts}/1", content=b"theirs", headers=theirs).status_code == 404
    assert httpx.post(f"{parts}/complete", json={"parts": [part]}, headers=theirs).status_code == 404


def test_what_completes_an_upload_is_not_read_before_its_signature(guarded: Server, http: httpx.Client) -> None:
    unsigned = f"{guarded.url}/fal/cdn/upload/x/a.wav/complete"
    for body in (b"no JSON", b" " * (3 * 2**20)):
        assert httpx.post(unsigned, content=body).status_code == 403
    signed = http.post("/fal/rest/storage/upload/initiate-multipart", json={}).json()["upload_url"]
    path, _, query = signed.partition("?")
    answer = httpx.post(f"{path}/complete?{query}", content=b" " * (3 * 2**20))
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (413, "file_too_large")
    wrong = httpx.post(f"{path}/complete?{query}", json={"parts": [{"etag": "x"}]})
    assert (wrong.status_code, wrong.json()["detail"][0]["loc"]) == (422, ["body", "parts", 0, "partNumber"])


def test_an_address_for_parts_takes_no_whole_file(http: httpx.Client) -> None:
    signed = http.post("/fal/rest/storage/upload/initiate-multipart", json={}).json()["upload_url"]
    answer = httpx.put(signed, content=b"all of it")
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "partNumber"])


@pytest.mark.parametrize("field", ["file_name", "content_type"])
def test_a_name_or_type_that_is_no_text_is_cleaned(http: httpx.Client, field: str) -> None:
    body = json.dumps({"file_name": "a.wav", "content_type": "audio/wav"} | {field: "\ud800/x" * 1000})
    answer = http.post("/fal/rest/storage/upload/initiate", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert len(answer.text) < 1000
    assert httpx.put(answer.json()["upload_url"], content=b"x").status_code == 200
    assert httpx.get(answer.json()["file_url"]).text == "x"


def rotated(server: Server, key_id: str) -> None:
    server.keys.rotate(key_id, grace_seconds=0)


def revoked(server: Server, key_id: str) -> None:
    server.keys.revoke(key_id)


@pytest.mark.parametrize("end", [rotated, revoked])
def test_tokens_and_signed_addresses_end_with_their_secret(guarded: Server, end: Callable[[Server, str], None]) -> None:
    key, plaintext = guarded.keys.create("short-lived")
    header = {"Authorization": f"Key {plaintext}"}
    rest = f"{guarded.url}/fal/rest"
    token = httpx.post(f"{rest}/tokens/", json={"token_expiration": 86_400}, headers=header).json()
    uploading = httpx.post(f"{rest}/storage/auth/token", json={}, headers=header).json()
    address = httpx.post(f"{rest}/storage/upload/initiate", json={}, headers=header).json()
    parts = httpx.post(f"{rest}/storage/upload/initiate-multipart", json={}, headers=header).json()
    path, _, query = parts["upload_url"].partition("?")
    end(guarded, key.id)
    bearer = {"Authorization": f"Bearer {uploading['token']}"}
    answers = (
        httpx.post(f"{guarded.url}/fal/run/{APP}?fal_jwt_token={token}", json=HELLO),
        httpx.post(f"{uploading['base_url']}/files/upload", content=b"abc", headers=bearer),
        httpx.put(address["upload_url"], content=b"abc"),
        httpx.put(f"{path}/1?{query}", content=b"abc"),
        httpx.post(f"{path}/complete?{query}", json={"parts": []}),
    )
    assert [answer.status_code for answer in answers] == [401] * 5


@pytest.mark.parametrize("end", [rotated, revoked])
async def test_an_open_socket_ends_with_its_secret(guarded: Server, end: Callable[[Server, str], None]) -> None:
    key, plaintext = guarded.keys.create("short-lived")
    url = f"ws://{guarded.host}/fal/run/{APP}/realtime"
    async with websockets.connect(url, additional_headers={"Authorization": f"Key {plaintext}"}) as socket:
        await socket.send(msgpack.packb(HELLO))
        while "audio" not in msgpack.unpackb(await socket.recv()):
            pass
        end(guarded, key.id)
        await socket.send(msgpack.packb(HELLO))
        assert json.loads(await socket.recv())["error"] == "UNAUTHORIZED"
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


def test_a_file_is_deleted_by_its_own_key_alone(guarded: Server, http: httpx.Client) -> None:
    url = http.post("/fal/cdn/files/upload", content=b"abc").json()["url"]
    other = {"Authorization": f"Key {guarded.keys.create('other')[1]}"}
    assert httpx.delete(url).status_code == 401
    assert httpx.delete(url, headers=other).status_code == 404
    assert httpx.get(url).content == b"abc"
    assert http.delete(url).status_code == 204
