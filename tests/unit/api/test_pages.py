"""A server without keys on its user's machine is not driven by web pages of others."""

from typing import Any

import httpx
import pytest

from serve_app.api.app import build_api
from serve_app.settings import KeySettings, Settings
from tests.support.speech import speech_service

TEXT = {"text": "Hi."}


async def status(headers: dict[str, str], **settings: Any) -> int:
    options = Settings(**settings)
    app = build_api(speech_service(settings=options), options)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as http:
        return (await http.post("/generate", json=TEXT, headers=headers)).status_code


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "csm", "gpu.localhost", "10.1.2.3"])
async def test_addresses_and_names_of_this_network_are_served(host: str) -> None:
    assert await status({"Host": host}) == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "1.1.1.1"])
async def test_a_public_name_that_leads_here_is_refused(host: str) -> None:
    assert await status({"Host": host}) == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://[", ""])
async def test_pages_of_others_are_refused(origin: str) -> None:
    assert await status({"Origin": origin}) == 403


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8000", "http://page"])
async def test_pages_of_this_machine_and_network_may_call(origin: str) -> None:
    assert await status({"Origin": origin}) == 200


async def test_a_page_and_a_name_can_be_let_in() -> None:
    origin = {"Origin": "https://app.example"}
    assert await status(origin, allowed_pages=["https://app.example"]) == 200
    assert await status(origin, allowed_pages=["*"]) == 200
    assert await status({"Host": "speech.example"}, public_url="https://speech.example/csm") == 200


async def test_a_server_that_is_open_to_all_is_open_to_pages() -> None:
    assert await status({"Origin": "https://a.example", "Host": "b.example"}, keys=KeySettings(open=True)) == 200
