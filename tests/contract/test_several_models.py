"""One ingress speaks with the models of several applications: OpenAI's `model`, and fal's id of an application."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgpack
import openai
import pytest
from websockets.sync.client import connect

from serve_app.settings import JobSettings, KeySettings
from tests.support.contract_server import Server, serving
from tests.support.waiting import until

TEXT = "One two three."
SCENE = {"scene": [{"text": TEXT, "speaker_id": 0}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("models"),
        other_models=["narrator"],
        jobs=JobSettings(poll_seconds=0.02),
        keys=KeySettings(open=True),
    ) as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    for decoder in (server.decoder, *server.others.values()):
        decoder.requests.clear()
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


def spoke(server: Server) -> dict[str, int]:
    """Requests by the model that spoke them."""
    own = {"own": len(server.decoder.requests)}
    return own | {name: len(decoder.requests) for name, decoder in server.others.items()}


def test_openais_client_names_the_model(server: Server, http: httpx.Client) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    assert "narrator" in [model.id for model in client.models.list()]
    client.audio.speech.create(model="narrator", voice="alloy", input=TEXT)
    assert spoke(server) == {"own": 0, "narrator": 1}
    for name in ("tts-1", "csm-1b", "fake", "csm"):
        client.audio.speech.create(model=name, voice="alloy", input=TEXT)
    assert spoke(server) == {"own": 4, "narrator": 1}
    with pytest.raises(openai.BadRequestError, match=r"model: is none of this server.s.*narrator") as error:
        client.audio.speech.create(model="narator", voice="alloy", input=TEXT)
    assert error.value.param == "model"


def test_the_end_of_a_request_is_asked_for_without_its_model(http: httpx.Client) -> None:
    body = {"model": "narrator", "input": TEXT}
    answer = http.post("/v1/audio/speech", json=body, headers={"X-Request-ID": "of-the-narrator"})
    assert answer.is_success
    assert http.get("/v1/audio/speech/of-the-narrator").json()["finish_reason"] == "eos"


def test_items_of_a_batch_may_have_different_models(server: Server, http: httpx.Client) -> None:
    items = [{"input": TEXT}, {"input": TEXT, "model": "narrator"}, {"input": TEXT, "model": "narrator"}]
    answer = http.post("/v1/audio/speech/batch", json={"items": items})
    assert answer.json()["succeeded"] == 3, answer.text
    assert spoke(server) == {"own": 1, "narrator": 2}
    jobs = http.get("/jobs").json()["jobs"]
    assert sorted(job["application"] for job in jobs[:3]) == ["csm", "narrator", "narrator"]


def test_fals_id_names_the_application(server: Server, http: httpx.Client) -> None:
    job = http.post("/fal/queue/fal-ai/narrator", json=SCENE).json()
    assert job["status_url"].startswith(f"{server.url}/fal/queue/fal-ai/narrator/requests/")
    until(lambda: http.get(job["status_url"]).status_code == 200, "the job ends")
    assert http.get(job["response_url"]).json()["audio"]["url"]
    assert http.post("/fal/run/fal-ai/narrator", json=SCENE).is_success
    assert spoke(server) == {"own": 0, "narrator": 2}
    assert http.post("/fal/run/fal-ai/csm-1b", json=SCENE).is_success
    assert spoke(server) == {"own": 1, "narrator": 2}
    assert http.post("/fal/run/fal-ai/nobody", json=SCENE).status_code == 404


def test_fals_socket_is_its_applications(server: Server, http: httpx.Client) -> None:
    with connect(f"ws://{server.host}/fal/run/fal-ai/narrator/realtime") as socket:
        socket.send(msgpack.packb(SCENE))
        message: dict[str, Any] = {}
        while "audio" not in message:
            message = msgpack.unpackb(socket.recv(timeout=10))
    assert spoke(server) == {"own": 0, "narrator": 1}


def test_a_token_may_be_for_any_of_them(http: httpx.Client) -> None:
    asked = {"allowed_apps": ["narrator"], "token_expiration": 10}
    assert http.post("/fal/rest/tokens/", json=asked).status_code == 200
    assert http.post("/fal/rest/tokens/", json=asked | {"allowed_apps": ["nobody"]}).status_code == 422
