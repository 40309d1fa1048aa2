"""GET /requests/{id}: what became of a request."""

import pytest
from fastapi import FastAPI

from serve_app.errors import GenerationFailed
from tests.support.api_harness import Exchange, api, client, generate
from tests.support.fakes import FakeDecoder, Utterance


async def outcome(app: FastAPI, request_id: str = "exchange") -> dict[str, object]:
    async with client(app) as http:
        answer = await http.get(f"/requests/{request_id}")
    assert answer.status_code == 200
    return answer.json()


async def test_a_finished_request_says_why_it_ended() -> None:
    app = api()
    answer = await generate(app, data={"text": "Hi.", "seed": "9"})
    request_id = answer.headers["x-request-id"]
    assert await outcome(app, request_id) == {
        "request_id": request_id, "seed": 9, "finish_reason": "eos", "audio_seconds": 0.32,
        "characters_spoken": 3, "turn_starts": [0.0],
    }  # fmt: skip


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_running_request_has_no_finish_reason_yet(streaming: bool) -> None:
    app = api(decoder := FakeDecoder(Utterance(stalls=True)))
    exchange = Exchange(app, {"text": "Hi.", "seed": 9, "streaming": streaming})
    await decoder.news.wait()
    assert await outcome(app) == {
        "request_id": "exchange", "seed": 9, "finish_reason": None, "audio_seconds": 0.32,
        "characters_spoken": 0, "turn_starts": [0.0],
    }  # fmt: skip
    exchange.disconnect()
    await exchange.task


@pytest.mark.parametrize("request_id", ["nobody", "%00", "a%20b", "%F0%9F%91%8B"])
async def test_an_unknown_request_is_not_found(request_id: str) -> None:
    async with client(api()) as http:
        answer = await http.get(f"/requests/{request_id}")
    assert answer.status_code == 404
    assert "is not known; finished requests are kept for ten minutes" in answer.json()["detail"]


async def test_a_refused_request_is_unknown() -> None:
    app = api(FakeDecoder(Utterance(refusal=GenerationFailed("broken"))))
    await generate(app, json={"text": "Hi."}, headers={"X-Request-Id": "refused"})
    async with client(app) as http:
        assert (await http.get("/requests/refused")).status_code == 404


async def test_two_running_requests_of_one_id_do_not_disturb_each_other() -> None:
    app = api(decoder := FakeDecoder(Utterance(num_frames=2, stalls=True), Utterance(num_frames=6)))
    first = Exchange(app, {"text": "Hi.", "streaming": True})
    await decoder.news.wait()
    answer = await generate(app, json={"text": "Hi."}, headers={"X-Request-Id": "exchange"})
    assert (answer.headers["x-csm-finish-reason"], answer.headers["x-csm-audio-seconds"]) == ("eos", "0.48")
    first.disconnect()
    await first.task
