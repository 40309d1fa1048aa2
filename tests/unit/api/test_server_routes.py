"""What is not speech: health, readiness, info, CORS and the description of the API."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from fastapi import FastAPI

from serve_app import __version__
from serve_app.errors import NotReady
from tests.support.api_harness import api, client
from tests.support.fakes import INFO, FakeDecoder


async def get(app: FastAPI, path: str, **request: Any) -> tuple[int, Any]:
    async with client(app) as http:
        answer = await http.get(path, **request)
    return answer.status_code, answer.json()


async def test_a_live_and_ready_server_says_so() -> None:
    app = api()
    assert await get(app, "/health") == (200, {"status": "healthy"})
    assert await get(app, "/ready") == (200, {"status": "ready"})


async def test_while_models_load_the_server_is_alive_and_not_ready() -> None:
    decoder = FakeDecoder()
    decoder.not_ready = NotReady("the models are still loading")
    app = api(decoder)
    assert await get(app, "/health") == (200, {"status": "healthy"})
    refusal = (503, {"detail": "the models are still loading"})
    assert await get(app, "/ready") == refusal
    assert await get(app, "/info") == refusal
    async with client(app) as http:
        assert (await http.post("/generate", json={"text": "Hi."})).status_code == 503
    decoder.not_ready = None
    assert (await get(app, "/ready"))[0] == 200


async def test_info_names_model_limits_and_defaults() -> None:
    status, info = await get(api(max_text_chars=77), "/info")
    assert status == 200
    assert (info["model"], info["weights"], info["version"]) == ("fake", "trained", __version__)
    assert info["limits"]["max_text_chars"] == 77
    assert info["sampling"]["temperature"] == 0.9
    assert "notice" not in info


@pytest.mark.parametrize(
    ("weights", "notice"),
    [
        ("random", "random weights: what this server says is noise; for speech use MODEL=sesame/csm-1b"),
        (
            "demo voice",
            "demo voice: a synthetic robot voice for trying the server; for speech use MODEL=sesame/csm-1b",
        ),
    ],
)
async def test_info_of_weights_that_are_not_the_real_ones_has_a_notice(weights: str, notice: str) -> None:
    _, info = await get(api(FakeDecoder(info=replace(INFO, weights=weights))), "/info")
    assert info["notice"] == notice


async def test_pages_of_other_origins_may_call_and_read_the_headers() -> None:
    preflight = {
        "Origin": "http://page",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x",
    }
    async with client(api()) as http:
        allowed = await http.options("/generate", headers=preflight)
        answer = await http.post("/generate", json={"text": "Hi."}, headers={"Origin": "http://page"})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "*")
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-expose-headers"] == "*"


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        node = list(node.values())
    for child in node if isinstance(node, list) else []:
        yield from references(child)


async def test_every_reference_in_the_description_leads_somewhere() -> None:
    _, description = await get(api(), "/openapi.json")
    found = set(references(description))
    assert "#/components/schemas/ContextItem" in found
    for reference in found:
        node = description
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


BODIES = [
    ("application/json", {"text": "Hi.", "speaker": 1, "context": [{"text": "x", "audio": "UklGRg=="}]}, True),
    ("application/json", {"scene": [{"text": "Hi.", "speaker": 1}], "temperature": 0.7, "seed": None}, True),
    ("application/json", {"text": "Hi.", "context": "[]"}, False),
    ("application/json", {"scene": [{"speaker": 1}]}, False),
    ("multipart/form-data", {"text": "Hi.", "context": "[]"}, True),
    ("multipart/form-data", {"text": "Hi.", "context": []}, False),
    ("application/x-www-form-urlencoded", {"scene": "[]", "seed": 3}, True),
]


@pytest.mark.parametrize(("kind", "body", "is_valid"), BODIES, ids=str)
async def test_the_description_tells_good_bodies_from_bad_ones(kind: str, body: dict[str, Any], is_valid: bool) -> None:
    _, description = await get(api(), "/openapi.json")
    schema = description["paths"]["/generate"]["post"]["requestBody"]["content"][kind]["schema"]
    validator = jsonschema.Draft202012Validator({**schema, "components": description["components"]})
    assert validator.is_valid(body) is is_valid


async def test_the_description_names_the_audio_and_every_error() -> None:
    _, description = await get(api(), "/openapi.json")
    responses = description["paths"]["/generate"]["post"]["responses"]
    assert set(responses) == {"200", "401", "403", "413", "422", "429", "500", "503"}
    assert "audio/wav" in responses["200"]["content"]
    error = responses["422"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert set(description["components"]["schemas"][error]["properties"]) == {"detail", "field"}
    assert "HTTPValidationError" not in description["components"]["schemas"]
