"""Kept voices on a head and two nodes with an ingress each: what one node has kept, the other speaks with. With
stand-ins for the models, as in test_two_nodes.py."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.settings import DatabaseSettings, EngineSettings, Settings, StandInSettings
from tests.integration.test_two_nodes import raylet, replicas_on
from tests.support.postgres_server import PostgresServer
from tests.support.ray_server import free_port, shared_ray
from tests.support.sounds import speech_like
from tests.support.waiting import until

# The same rules hold for two processes in test_voices.py and test_library.py; here they are nodes of a cluster.
pytestmark = pytest.mark.slow

INGRESS = "Ingress"


@dataclass(frozen=True, slots=True)
class Cluster:
    url: str
    ray: Any
    first: Any

    def add_node(self) -> Any:
        return self.ray.add_node(num_cpus=2, resources={"card": 1})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, postgres: PostgresServer) -> Iterator[Cluster]:
    """Two ingresses are wanted, of which the only node has room for one."""
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster as RayCluster

    from serve_app.app import build_graph
    from serve_app.deployments.options import deployment_options

    settings = Settings(
        model="stand-in",
        data_dir=tmp_path,
        database=DatabaseSettings(url=postgres.new_database()),
        stand_in=StandInSettings(step_ms_by_batch={1: 5.0}),
        engine=EngineSettings(threads=1),
    )
    placed = {name: values | _placement(name) for name, values in deployment_options(settings).items()}
    monkeypatch.setattr("serve_app.app.deployment_options", lambda _: placed)
    graph, port = build_graph(settings), free_port()
    shared_ray.stop()
    made = RayCluster()
    try:
        made.add_node(num_cpus=2, resources={"head": 1}, include_dashboard=False)
        node = made.add_node(num_cpus=2, resources={"card": 1})
        ray.init(made.address, log_to_driver=False)
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        app = serve.RunTarget(graph, name="nodes", route_prefix="/")
        serve.run_many([app], wait_for_applications_running=False)  # the second ingress has no place yet
        running = Cluster(f"http://127.0.0.1:{port}", made, node)
        until(lambda: _is_ready(running.url), "the first ingress answers", seconds=180)
        yield running
        serve.shutdown()
    finally:
        ray.shutdown()
        made.shutdown()


def _placement(name: str) -> dict[str, Any]:
    if name == INGRESS:
        wanted = {"num_cpus": 0.1, "resources": {"card": 1}}
        return {"num_replicas": 2, "max_replicas_per_node": 1, "ray_actor_options": wanted}
    return {"ray_actor_options": {"num_cpus": 0.1, "resources": {"head": 0.1}}}


def _is_ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/ready", timeout=10).is_success
    return False


def upload(url: str, name: str) -> httpx.Response | None:
    """None if the server died meanwhile."""
    clips = [{"text": f"This clip is {name}'s.", "audio": base64.b64encode(speech_like(4.0)).decode()}]
    consent = {"statement": "I agree that my voice is used here.", "by": "Ann Example"}
    body = {"name": name, "clips": clips, "consent": consent, "audition": False}
    with suppress(httpx.TransportError):
        return httpx.post(f"{url}/voices", json=body, timeout=60)
    return None


def voices(url: str) -> list[str]:
    return [voice["name"] for voice in httpx.get(f"{url}/voices", timeout=60).raise_for_status().json()["voices"]]


def speaks(url: str, voice: str) -> bool:
    body = {"text": "Hello there.", "voice": voice, "max_audio_seconds": 1}
    answer = httpx.post(f"{url}/generate", json=body, timeout=60)
    return answer.is_success and len(answer.content) > 44


def test_a_voice_outlives_the_node_that_it_came_to_and_kills_during_uploads(cluster: Cluster) -> None:
    url = cluster.url
    kept = upload(url, "Ann")
    assert kept is not None and kept.status_code == 201
    second = cluster.add_node()
    until(lambda: replicas_on(second) == [INGRESS], "the second node has an ingress", seconds=180)

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: upload(url, "Bob"), range(8)))
    statuses = sorted(answer.status_code for answer in answers if answer is not None)
    assert statuses == [201] + [409] * 7

    for number, delay in enumerate((0.02, 0.05, 0.1)):
        with ThreadPoolExecutor(1) as client:
            sent = client.submit(upload, url, f"Killed {number}")
            with suppress(TimeoutError):
                sent.result(delay)
            for node in (cluster.first, second):
                for process in raylet(node).children():
                    if INGRESS in " ".join(process.cmdline()):
                        process.kill()
        until(lambda: _is_ready(url), "an ingress answers again", seconds=180)
        assert (f"Killed {number}" in voices(url)) == speaks(url, f"Killed {number}"), "it is whole, or it is not there"
        again = upload(url, f"Killed {number}")
        assert again is not None and again.status_code in (201, 409), again
        assert speaks(url, f"Killed {number}")

    lost = raylet(cluster.first)
    for process in [lost, *lost.children()]:
        process.kill()
    until(lambda: _is_ready(url) and replicas_on(second) == [INGRESS], "the second node answers", seconds=180)
    assert sorted(voices(url)) == ["Ann", "Bob", "Killed 0", "Killed 1", "Killed 2"]
    assert speaks(url, "Ann") and speaks(url, "Bob")
