"""`quality` of jobs, in both dialects that queue: takes are drawn, the scores stand in the result."""

from typing import Any

import httpx
import pytest

from serve_app.client import Client
from tests.support.contract_server import Server
from tests.support.waiting import until

SCENE: dict[str, Any] = {"scene": [{"text": "One of these is kept.", "speaker_id": 0}]}
RUN, QUEUE, BATCH = "/fal/run/fal-ai/csm-1b", "/fal/queue/fal-ai/csm-1b", "/v1/audio/speech/batch"


def test_a_job_draws_its_takes_in_the_background_and_tells_their_scores(server: Server) -> None:
    before = len(server.decoder.requests)
    job = httpx.post(f"{server.url}{QUEUE}", json=SCENE | {"quality": {"candidates": 3, "good_enough": 1}}).json()
    until(lambda: httpx.get(job["status_url"]).status_code == 200, "the job ends")
    quality = httpx.get(job["response_url"]).json()["quality"]
    assert (quality["candidates"], quality["drawn"], quality["words_checked"]) == (3, 3, False)
    (utterance,) = quality["utterances"]
    assert len(utterance["takes"]) == 3 and {"score", "pace", "ends_by_itself"} <= utterance["takes"][0].keys()
    takes = server.decoder.requests[before:]
    assert len(takes) == 3 == len({take.sampling.seed for take in takes})
    assert all(take.priority > 0 for take in takes)


def test_so_does_an_item_of_a_batch_and_defaults_are_for_all_items(server: Server) -> None:
    body = {"items": [{"input": "One."}, {"input": "Two.", "quality": {"candidates": 1}}], "quality": {"candidates": 2}}
    results = httpx.post(f"{server.url}{BATCH}", json=body, timeout=30).json()["results"]
    assert [result["quality"]["drawn"] for result in results] == [2, 1]


@pytest.mark.parametrize(
    ("path", "changes", "why"),
    [
        (RUN, {"quality": {"candidates": 2}}, "is for jobs alone"),
        (QUEUE, {"quality": {"candidates": 9}}, "must be from 1 to 8"),
        (QUEUE, {"quality": {"candidates": 0}}, "must be from 1 to 8"),
        (QUEUE, {"quality": {"candidates": 2, "good_enough": 2}}, "at most 1"),
        (QUEUE, {"quality": {"candidates": 2, "spread": 3}}, "must be from 1"),
        (QUEUE, {"quality": {"candidates": 2}, "temperature": 0}, "all takes would be the same"),
        (QUEUE, {"quality": {"candidates": "many"}}, "candidates"),
        (QUEUE, {"quality": 3}, "quality"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_at_once(
    server: Server, path: str, changes: dict[str, Any], why: str
) -> None:
    answer = httpx.post(f"{server.url}{path}", json=SCENE | changes)
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"][:2] == ["body", "quality"] and why in problem["msg"] + str(problem["loc"])


def test_a_request_that_is_waited_for_has_none(server: Server) -> None:
    body = {"input": "Hello.", "voice": "alloy", "quality": {"candidates": 2}}
    answer = httpx.post(f"{server.url}/v1/audio/speech", json=body)
    assert answer.status_code == 400
    assert "is for jobs alone" in answer.json()["error"]["message"]


def test_our_client_asks_for_takes_and_reads_their_scores(server: Server) -> None:
    with Client(server.url) as client:
        job = client.wait(client.submit("Say it again.", quality={"candidates": 2, "good_enough": 1}).id, 30)
        assert job.quality is not None and job.quality["drawn"] == 2
