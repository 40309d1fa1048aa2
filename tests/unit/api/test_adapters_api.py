"""Adapters over HTTP: named by requests, added and removed by an operator."""

from pathlib import Path

import pytest
from fastapi import FastAPI

from serve_app.adapters.registry import AdapterRegistry
from serve_app.api.app import build_api
from serve_app.errors import CheckpointError
from serve_app.keys.key import Scope
from serve_app.keys.keys import Keys
from serve_app.messages import AdapterRef
from serve_app.settings import KeySettings, Settings
from serve_app.store.database import Database
from tests.support.api_harness import client
from tests.support.fakes import FakeDecoder
from tests.support.speech import speech_service


class Decoder(FakeDecoder):
    """Knows one adapter's files."""

    async def check_adapter(self, ref: AdapterRef) -> None:
        if ref.source != "/good":
            raise CheckpointError(f"{ref.name}: adapter_config.json is missing")


@pytest.fixture
def decoder() -> Decoder:
    return Decoder()


def app(tmp_path: Path, decoder: Decoder, keys: Keys | None = None, is_open: bool = False) -> FastAPI:
    made = Settings(adapters={"danish": "/danish"}, keys=KeySettings(open=is_open))
    registry = AdapterRegistry(Database.open(f"sqlite:///{tmp_path}/state.db"), made.adapters)
    return build_api(speech_service(decoder, settings=made, adapters=registry), made, keys=keys)


async def test_a_request_names_an_adapter(tmp_path: Path, decoder: Decoder) -> None:
    async with client(app(tmp_path, decoder)) as http:
        answer = await http.post("/generate", json={"text": "Hej.", "adapter": "danish"})
        assert answer.status_code == 200
        assert decoder.requests[-1].adapter == AdapterRef("danish", "/danish")
        assert (await http.post("/generate", json={"text": "Hej."})).status_code == 200
        assert decoder.requests[-1].adapter is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"text": "Hej.", "adapter": "swedish"}),
        ("/v1/audio/speech", {"input": "Hej.", "voice": "alloy", "adapter": "swedish"}),
    ],
)
async def test_a_name_that_is_not_known(path: str, body: dict[str, str], tmp_path: Path, decoder: Decoder) -> None:
    async with client(app(tmp_path, decoder)) as http:
        answer = await http.post(path, json=body)
    assert answer.status_code in (400, 422)
    assert "GET /adapters lists them" in answer.text and not decoder.requests


async def test_adapters_are_added_and_removed_while_the_server_runs(tmp_path: Path, decoder: Decoder) -> None:
    async with client(app(tmp_path, decoder)) as http:
        assert (await http.put("/adapters/mine", json={"source": "/good"})).json()["source"] == "/good"
        assert (await http.get("/adapters")).json() == {"adapters": [{"name": "danish"}, {"name": "mine"}]}
        await http.post("/generate", json={"text": "Hej.", "adapter": "mine"})
        first = decoder.requests[-1].adapter
        await http.put("/adapters/mine", json={"source": "/good"})
        await http.post("/generate", json={"text": "Hej.", "adapter": "mine"})
        second = decoder.requests[-1].adapter
        assert first and second and first.key != second.key, "other files may have come under the same name"
        assert (await http.delete("/adapters/mine")).status_code == 200
        assert (await http.delete("/adapters/mine")).status_code == 404
        assert (await http.post("/generate", json={"text": "Hej.", "adapter": "mine"})).status_code == 422


async def test_what_cannot_be_added(tmp_path: Path, decoder: Decoder) -> None:
    async with client(app(tmp_path, decoder)) as http:
        bad = await http.put("/adapters/mine", json={"source": "/bad"})
        assert bad.status_code == 422 and "adapter_config.json is missing" in bad.text
        for name in ("danish", "-x", "a b"):
            assert (await http.put(f"/adapters/{name}", json={"source": "/good"})).status_code == 422
        assert (await http.get("/adapters")).json() == {"adapters": [{"name": "danish"}]}


async def test_only_an_operator_adds_them(tmp_path: Path, decoder: Decoder) -> None:
    keys = Keys(Database.open(f"sqlite:///{tmp_path}/keys.db"), KeySettings(required=True))
    _, usual = keys.create("caller")
    _, admin = keys.create("operator", (Scope.SPEECH, Scope.ADMIN))
    async with client(app(tmp_path, decoder, keys)) as http:
        for method in ("PUT", "DELETE"):
            answer = await http.request(
                method, "/adapters/mine", json={"source": "/good"}, headers={"Authorization": f"Key {usual}"}
            )
            assert answer.status_code == 403 and "admin" in answer.text
        operator = {"Authorization": f"Key {admin}"}
        assert (await http.put("/adapters/mine", json={"source": "/good"}, headers=operator)).status_code == 200


async def test_nobody_adds_them_to_an_open_server(tmp_path: Path, decoder: Decoder) -> None:
    async with client(app(tmp_path, decoder, is_open=True)) as http:
        assert (await http.put("/adapters/mine", json={"source": "/good"})).status_code == 403
