"""Two applications of one Serve: each its own model and settings, one database, one ingress that speaks with both."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.ray_server import SharedRay, ready
from tests.support.waiting import until

pytestmark = pytest.mark.slow

FRAMES = 4
ASKED = {"input": "Hello there.", "seed": 7, "max_audio_seconds": FRAMES / 12.5, "response_format": "pcm"}


@pytest.fixture(scope="module")
def narrator_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from serve_app.model.create import create_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "narrator"
    create_checkpoint(folder, "tiny", seed=1)
    return folder


@pytest.fixture(scope="module")
def url(
    ray_of_session: SharedRay,
    tiny_checkpoint_folder: Path,
    narrator_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    from ray import serve

    from serve_app.app import build_graph
    from serve_app.settings import CodecSettings, EngineSettings, Settings

    data_dir = tmp_path_factory.mktemp("data")

    def graph(model: Path, slots: int, **more: Any) -> serve.Application:
        engine = EngineSettings(max_batch_size=slots, max_waiting=4, max_wait_seconds=120)
        return build_graph(
            Settings(
                model=str(model), data_dir=data_dir, engine=engine, codec=CodecSettings(max_wait_seconds=60), **more
            )
        )

    server = ray_of_session.serving("two", lambda: graph(tiny_checkpoint_folder, 4, other_models=["narrator"]))
    serve.run(graph(narrator_checkpoint, 2), name="narrator", route_prefix="/narrator")
    try:
        until(lambda: ready(f"{server.url}/narrator"), "the second application is ready", 60)
        yield server.url
    finally:
        serve.delete("narrator")
        ray_of_session.clear()


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as http:
        yield http


def sound(http: httpx.Client, prefix: str = "", **more: Any) -> bytes:
    answer = http.post(f"{prefix}/v1/audio/speech", json=ASKED | more)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) == FRAMES * 1920 * 2
    return answer.content


def test_each_application_has_its_own_model_and_settings(
    http: httpx.Client, tiny_checkpoint_folder: Path, narrator_checkpoint: Path
) -> None:
    own, other = http.get("/info").json(), http.get("/narrator/info").json()
    assert (own["model"], other["model"]) == (str(tiny_checkpoint_folder), str(narrator_checkpoint))
    assert (own["max_batch_size"], other["max_batch_size"]) == (4, 2)
    assert sound(http) != sound(http, "/narrator")


def test_one_ingress_speaks_with_the_model_that_is_named(http: httpx.Client) -> None:
    assert sound(http, model="narrator") == sound(http, "/narrator")
    assert sound(http, model="csm-1b") == sound(http)


def test_a_job_is_run_by_its_own_application(http: httpx.Client) -> None:
    """Submitted at one ingress. Its sound is that of the other's model, and its state is seen at both."""
    input_ = {"scene": [{"text": "Hello there.", "speaker_id": 0}], "seed": 7, "max_audio_seconds": FRAMES / 12.5}
    heard: dict[str, bytes] = {}
    for app, place in (("narrator", ""), ("csm-1b", "/narrator"), ("csm-1b", "")):
        job = http.post(f"{place}/fal/queue/fal-ai/{app}", json=input_).raise_for_status().json()
        until(lambda job=job: http.get(job["status_url"]).status_code == 200, "the job ends")
        seen = http.get(f"/jobs/{job['request_id']}").json()
        assert (seen["state"], seen["application"]) == (
            "completed",
            "narrator" if place or app == "narrator" else "csm",
        )
        heard[f"{place}/{app}"] = http.get(http.get(job["response_url"]).json()["audio"]["url"]).content
    assert heard["/narrator"] == heard["/narrator/csm-1b"] != heard["/csm-1b"]


def test_metrics_name_the_application(http: httpx.Client) -> None:
    def named() -> set[str]:
        rows = [line for line in http.get("/metrics").text.splitlines() if line.startswith("ray_csm_engine_slots{")]
        return {row.partition('application="')[2].partition('"')[0] for row in rows}

    until(lambda: {"csm", "narrator"} <= named(), "both applications' metrics are there", 20)
