"""HTTP as clients speak it: HEAD, OPTIONS, preflights, streams behind proxies, JSON under other types."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.app import build_api
from serve_app.errors import NotReady
from serve_app.settings import Settings
from tests.support.api_harness import api, client, generate, samples_of
from tests.support.fakes import FakeDecoder
from tests.support.speech import speech_service

JSON_BODY = b'{"text": "Hi.", "seed": 5}'


async def ask(method: str, path: str, app: Any = None, **request: Any) -> httpx.Response:
    async with client(app or api()) as http:
        return await http.request(method, path, **request)


@pytest.mark.parametrize("path", ["/health", "/ready", "/info", "/docs", "/redoc", "/openapi.json", "/requests/none",
                                  "/v1/models", "/v1/models/sesame/csm-1b", "/v1/audio/voices"])  # fmt: skip
async def test_head_answers_as_get_does_without_a_body(path: str) -> None:
    get, head = await ask("GET", path), await ask("HEAD", path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == str(len(get.content))


async def test_head_of_a_server_that_is_not_ready_says_so() -> None:
    decoder = FakeDecoder()
    decoder.not_ready = NotReady("the models are still loading")
    assert (await ask("HEAD", "/ready", api(decoder))).status_code == 503


async def test_head_where_nothing_is_to_be_read_is_refused() -> None:
    answer = await ask("HEAD", "/generate")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await ask("HEAD", "/nowhere")).status_code == 404


@pytest.mark.parametrize(
    ("path", "allow"), [("/health", "GET, HEAD, OPTIONS"), ("/requests/x", "DELETE, GET, HEAD, OPTIONS"),
                        ("/generate", "OPTIONS, POST"), ("/v1/audio/speech", "OPTIONS, POST"),
                        ("/v1/models", "GET, HEAD, OPTIONS"),
                        ("/api/fal/proxy", "DELETE, GET, HEAD, OPTIONS, POST, PUT")],
)  # fmt: skip
async def test_options_names_the_methods_of_a_path(path: str, allow: str) -> None:
    answer = await ask("OPTIONS", path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allow, b"")


async def test_options_of_an_unknown_path_is_not_found() -> None:
    assert (await ask("OPTIONS", "/nowhere")).status_code == 404


@pytest.mark.parametrize("path", ["/generate", "/info", "/v1/audio/speech", "/fal/run/fal-ai/csm-1b", "/api/fal/proxy"])
async def test_a_public_page_may_call_a_server_on_a_private_network(path: str) -> None:
    preflight = {
        "Origin": "https://chat.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Private-Network": "true",
    }
    answer = await ask("OPTIONS", path, headers=preflight)
    assert (answer.status_code, answer.headers["access-control-allow-private-network"]) == (200, "true")


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "text/plain;charset=UTF-8", "application/octet-stream", "text/json",
     "multipart/form-data", ""],
)  # fmt: skip
@pytest.mark.parametrize("start", [b"", b"\r\n \t", b"\xef\xbb\xbf"], ids=["plain", "blank", "bom"])
async def test_json_under_another_content_type_is_json(kind: str, start: bytes) -> None:
    answer = await generate(api(), content=start + JSON_BODY, headers={"content-type": kind})
    assert answer.status_code == 200, answer.text
    assert samples_of(answer.content)  # whole, as JSON answers by default


async def test_json_without_a_content_type_is_json() -> None:
    assert (await generate(api(), content=JSON_BODY)).status_code == 200


@pytest.mark.parametrize(
    ("asked", "headers", "location"),
    [
        ("/generate/", {}, "http://csm/generate"),
        ("/info/?a=b", {"X-Forwarded-Proto": "https"}, "https://csm/info?a=b"),
        ("/info/", {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "speech.example.com"},
         "https://speech.example.com/info"),
        ("/info/", {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "a.example:8443, b"},
         "https://a.example:8443/info"),
        ("/info/", {"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a/b@c"}, "http://csm/info"),
        ("/info/", {"Host": "[::1]:8000"}, "http://[::1]:8000/info"),
        ("/info/", {"X-Forwarded-Host": "[2001:db8::1]"}, "http://[2001:db8::1]/info"),
    ],
)  # fmt: skip
async def test_a_redirect_keeps_scheme_and_host_of_the_proxy_in_front(
    asked: str, headers: dict[str, str], location: str
) -> None:
    answer = await ask("POST" if "generate" in asked else "GET", asked, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (307, location)


async def test_a_redirect_leads_to_the_public_url_where_one_is_set() -> None:
    settings = Settings(public_url="https://speech.example.com/csm/")
    answer = await ask("GET", "/info/", build_api(speech_service(settings=settings), settings))
    assert answer.headers["location"] == "https://speech.example.com/csm/info"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_reference_needs_nothing_from_elsewhere(path: str) -> None:
    async with client(api()) as http:
        page = await http.get(path)
        linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert any(link.endswith(".js") for link in linked)
        for link in linked:
            assert link.startswith("/"), link
            assert (await http.get(link)).status_code == 200
        assert "cdn" not in page.text


async def test_scripts_of_the_reference_need_no_key(tmp_path: Path) -> None:
    from serve_app.keys.keys import Keys
    from serve_app.store.database import Database

    settings = Settings(data_dir=tmp_path)
    database = Database.open(settings.database_url)
    app = build_api(speech_service(settings=settings), settings, keys=Keys(database, settings.keys))
    links = re.findall(r'src="([^"]+)"', (await ask("GET", "/docs", app)).text)
    assert [(await ask("GET", link, app)).status_code for link in links] == [200] * len(links)
    assert (await ask("HEAD", "/info", app)).status_code == 401
    database.close()
