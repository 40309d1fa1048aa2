"""X-Request-Id as gateways make it."""

from urllib.parse import quote

import pytest

from tests.support.api_harness import api, client, generate
from tests.support.fakes import FakeDecoder

ODD = ["a b", "x" * 129, "x" * 512, "a/b", "<script>", "host:1:42", "kA9+/x1Qe0eJ8w==", "é", "..", "%2F"]


@pytest.mark.parametrize("sent", ODD, ids=ascii)
@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
async def test_an_odd_id_is_replaced_and_both_find_the_request(sent: str, charset: str) -> None:
    app = api(decoder := FakeDecoder())
    answer = await generate(app, json={"text": "Hi."}, headers={b"X-Request-Id": sent.encode(charset)})
    ours = answer.headers["x-csm-request-id"]
    assert answer.status_code == 200
    assert [request.request_id for request in decoder.requests] == [ours]
    assert ours in answer.headers["content-disposition"]
    async with client(app) as http:
        found = [await http.get(f"/requests/{ours}"), await http.get(f"/requests/{quote(sent, safe='')}")]
    if sent != "..":  # which no client leaves in a path
        assert [(each.status_code, each.json()["request_id"]) for each in found] == [(200, ours)] * 2


@pytest.mark.parametrize("sent", ["my.id-1", "x" * 128])
async def test_a_safe_id_is_kept(sent: str) -> None:
    answer = await generate(api(), json={"text": "Hi."}, headers={"X-Request-Id": sent})
    assert answer.headers["x-csm-request-id"] == sent


async def test_two_odd_ids_are_two_requests() -> None:
    app = api()
    answers = [await generate(app, json={"text": "Hi."}, headers={"X-Request-Id": sent}) for sent in ("a/b", "a/c")]
    assert len({answer.headers["x-csm-request-id"] for answer in answers}) == 2


async def test_an_empty_id_is_none() -> None:
    answers = [await generate(api(), json={"text": "Hi."}, headers={"X-Request-Id": ""}) for _ in range(2)]
    assert len({answer.headers["x-csm-request-id"] for answer in answers}) == 2
