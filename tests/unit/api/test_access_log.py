"""One line for each request, without anything that its caller wrote."""

import logging

import pytest

from tests.support.api_harness import api, client, generate


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("serve_app"), "propagate", True)
    caplog.set_level(logging.INFO, "serve_app.access")
    return caplog


async def test_an_answer_is_one_line_with_its_first_audio_and_length(lines: pytest.LogCaptureFixture) -> None:
    await generate(api(), json={"text": "Zanzibar."})
    (line,) = lines.messages
    assert line.startswith("HTTP POST /generate 200, first audio ")
    assert line.endswith(" ms, 0.32 s of audio, eos")


async def test_refusals_have_their_status_and_no_word_of_the_caller(lines: pytest.LogCaptureFixture) -> None:
    app = api()
    await generate(app, json={"text": "Zanzibar.", "temperature": 9})
    async with client(app) as http:
        await http.get("/requests/Zanzibar?key=Zanzibar")
        await http.get("/Zanzibar")
    starts = [line.partition(",")[0] for line in lines.messages]
    assert starts[0] == "HTTP POST /generate 422"
    assert starts[1] == "HTTP GET /requests/{request_id:path} 404"
    assert starts[2].endswith(" 404")
    assert "Zanzibar" not in lines.text


async def test_probes_and_the_pages_files_are_left_out(lines: pytest.LogCaptureFixture) -> None:
    async with client(api()) as http:
        for path in ("/", "/health", "/ready", "/playground/page.js"):
            assert (await http.get(path)).status_code == 200
    assert lines.messages == []
