"""Files as players, browsers and caches ask for them, and uploads as strangers send them."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from serve_app.settings import FileSettings
from serve_app.store.tables import FILES
from tests.support.contract_server import Server, serving

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


@pytest.fixture
def url(http: httpx.Client) -> str:
    return upload(http, CONTENT, "audio/wav", "a clip.wav")


def upload(http: httpx.Client, content: bytes, kind: str = "audio/wav", name: str = "a.wav", **headers: str) -> str:
    headers |= {"content-type": kind, "x-fal-file-name": name}
    answer = http.post("/fal/cdn/files/upload", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["access_url"]


def test_a_file_comes_back_as_it_went_up(http: httpx.Client, url: str) -> None:
    answer = http.get(url)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["content-length"] == "1024"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"].startswith('inline; filename="a_clip.wav"')
    assert url.endswith("/a_clip.wav")


def test_head_tells_the_same_without_the_bytes(http: httpx.Client, url: str) -> None:
    head, get = http.head(url), http.get(url)
    assert (head.status_code, head.content) == (200, b"")
    same = ("content-type", "content-length", "etag", "accept-ranges", "cache-control")
    assert [head.headers[name] for name in same] == [get.headers[name] for name in same]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-99", 0, 99), ("100-", 100, 1023), ("-24", 1000, 1023), ("1000-5000", 1000, 1023), ("-5000", 0, 1023)],
)
def test_a_range_is_a_part(http: httpx.Client, url: str, asked: str, first: int, last: int) -> None:
    answer = http.get(url, headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content) == (206, CONTENT[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/1024"
    assert answer.headers["content-length"] == str(last + 1 - first)
    head = http.head(url, headers={"Range": f"bytes={asked}"})
    assert (head.status_code, head.headers["content-range"]) == (206, answer.headers["content-range"])


@pytest.mark.parametrize("asked", ["1024-", "5000-6000", "-0"])
def test_a_range_behind_the_end_is_refused(http: httpx.Client, url: str, asked: str) -> None:
    answer = http.get(url, headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */1024")


@pytest.mark.parametrize("asked", ["bytes=-", "bytes=9-3", "bytes=0-1,5-6", "lines=1-2", "bytes=a-b", "bytes=٣-٤"])
def test_a_range_that_is_none_is_all_of_it(http: httpx.Client, url: str, asked: str) -> None:
    answer = http.get(url, headers={"Range": asked.encode()})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_what_a_cache_has_is_not_sent_again(http: httpx.Client, url: str) -> None:
    etag = http.get(url).headers["etag"]
    assert http.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert http.get(url, headers={"Range": "bytes=0-9", "If-Range": etag}).status_code == 206
    assert http.get(url, headers={"Range": "bytes=0-9", "If-Range": '"another"'}).status_code == 200


def test_an_empty_file_is_a_file(http: httpx.Client) -> None:
    url = upload(http, b"")
    assert (http.get(url).status_code, http.get(url).content) == (200, b"")
    assert http.get(url, headers={"Range": "bytes=0-"}).status_code == 416


def test_a_page_of_another_origin_may_play_it(http: httpx.Client, url: str) -> None:
    answer = http.get(url, headers={"Origin": "http://page", "Range": "bytes=0-9"})
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/xml"])
def test_no_file_becomes_a_page_of_ours(http: httpx.Client, kind: str) -> None:
    headers = http.get(upload(http, b"<script>alert(1)</script>", kind, "a.html")).headers
    assert "sandbox" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ['a"; filename=b.exe', "../../etc/passwd", "a\tb", "%0d%0aX: y", "."])
def test_a_name_cannot_break_out_of_its_header(http: httpx.Client, name: str) -> None:
    answer = http.get(upload(http, b"x", name=name))
    assert answer.status_code == 200
    assert "x" not in answer.headers
    assert answer.headers["content-disposition"].count('"') == 2


def test_a_file_is_gone_when_its_time_is_over(http: httpx.Client, server: Server) -> None:
    lifecycle = {"x-fal-object-lifecycle": '{"expiration_duration_seconds": 600}'}
    url = upload(http, b"x", **lifecycle)
    cached = re.fullmatch(r"private, max-age=(\d+), immutable", http.get(url).headers["cache-control"])
    assert cached and 500 < int(cached[1]) <= 600
    server.expire(url)
    answer = http.get(url)
    assert (answer.status_code, list(answer.json())) == (404, ["detail"])


def test_the_answers_file_lives_as_long_as_was_asked(http: httpx.Client) -> None:
    body = {"scene": [{"text": "one", "speaker_id": 0}]}
    headers = {"x-fal-object-lifecycle-preference": '{"expiration_duration_seconds": 600}'}
    short = http.post("/fal/run/fal-ai/csm-1b", json=body, headers=headers).json()["audio"]["url"]
    usual = http.post("/fal/run/fal-ai/csm-1b", json=body).json()["audio"]["url"]
    ages = [int(http.head(url).headers["cache-control"].split("=")[1].split(",")[0]) for url in (short, usual)]
    assert 500 < ages[0] <= 600
    assert ages[1] == 86_400


@pytest.mark.parametrize(
    "value", ["x", "[]", '{"expiration_duration_seconds": 0}', '{"expiration_duration_seconds": "x"}']
)
def test_a_lifecycle_that_cannot_be_read_is_named(http: httpx.Client, value: str) -> None:
    answer = http.post("/fal/cdn/files/upload", content=b"x", headers={"x-fal-object-lifecycle": value})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["header", "x-fal-object-lifecycle"]


def test_parts_are_put_together_in_their_order(http: httpx.Client) -> None:
    headers = {"x-fal-file-name": "parts.bin", "content-type": "application/zip"}
    begun = http.post("/fal/cdn/files/upload/multipart", headers=headers).json()
    parts = f"{begun['access_url']}/multipart/{begun['uploadId']}"
    told = {}
    for number in (3, 1, 2, 1):  # the first one twice
        answer = http.put(f"{parts}/{number}", content=str(number).encode() * 5)
        told[number] = answer.json()
        assert answer.headers["etag"] == told[number]["etag"]
    completed = http.post(f"{parts}/complete", json={"parts": list(told.values())})
    assert completed.json()["access_url"] == begun["access_url"]
    answer = http.get(begun["access_url"])
    assert (answer.content, answer.headers["content-type"]) == (b"111112222233333", "application/zip")


def test_what_is_wrong_with_parts_is_said(http: httpx.Client) -> None:
    begun = http.post("/fal/cdn/files/upload/multipart").json()
    parts = f"{begun['access_url']}/multipart/{begun['uploadId']}"
    for number in ("0", "10001", "x"):
        assert http.put(f"{parts}/{number}", content=b"x").status_code == 422
    missing = http.post(f"{parts}/complete", json={"parts": [{"partNumber": 1, "etag": "x"}]})
    assert (missing.status_code, missing.json()["detail"][0]["loc"]) == (422, ["body", "parts"])
    assert http.put(f"{begun['access_url']}/multipart/unknown/1", content=b"x").status_code == 404


def test_files_over_the_limits_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    limits = FileSettings(max_file_bytes=10_000, quota_bytes=15_000)
    with (
        serving(tmp_path_factory.mktemp("data"), files=limits) as server,
        httpx.Client(base_url=server.url, timeout=30) as http,
    ):
        large = http.post("/fal/cdn/files/upload", content=bytes(10_001))
        assert (large.status_code, large.json()["detail"][0]["type"]) == (413, "file_too_large")
        upload(http, bytes(10_000))
        full = http.post("/fal/cdn/files/upload", content=bytes(10_000))
        assert full.status_code == 422
        assert "15000 bytes" in full.json()["detail"][0]["msg"]


def test_a_body_larger_than_any_input_is_refused_in_fals_shape(http: httpx.Client) -> None:
    answer = http.post("/fal/run/fal-ai/csm-1b", content=b" " * (33 * 2**20))
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (413, ["body"])


def test_a_file_that_is_never_to_expire_does_not(http: httpx.Client, server: Server) -> None:
    """fal says so with a null; a lifecycle that does not speak of it is the server's own."""

    def expires_at(**said: Any) -> float | None:
        url = upload(http, b"x", **{"x-fal-object-lifecycle": json.dumps(said)})
        with server.database.reading() as connection:
            return connection.scalar(select(FILES.c.expires_at).where(FILES.c.id == url.split("/")[-2]))

    assert expires_at(expiration_duration_seconds=None) is None
    assert expires_at(initial_acl={"default": "allow"}) is not None


def test_a_file_can_be_deleted_by_its_owner(server: Server) -> None:
    url = httpx.post(f"{server.url}/fal/cdn/files/upload", content=b"abc").json()["url"]
    assert httpx.delete(url).status_code == 204
    assert httpx.get(url).status_code == httpx.delete(url).status_code == 404
