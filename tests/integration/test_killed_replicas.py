"""Replicas are killed while people listen: the bytes are those of an undisturbed stream.

With stand-ins for the models, whose codes depend on seed and frame alone: what is compared is the graph.
"""

import asyncio
import random
import signal
from collections.abc import Iterator

import httpx
import psutil
import pytest
from conftest import Server, free_port
from ray import serve

from serve_app.app import build_graph
from serve_app.deployments import options
from serve_app.settings import EngineSettings, Settings, StandInSettings

STREAMS = 6
SECONDS = 8


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    import ray

    port = free_port()
    settings = Settings(
        model="stand-in",
        stand_in=StandInSettings(step_ms_by_batch={1: 30.0}),
        engine=EngineSettings(max_batch_size=8, threads=1),
    )
    doubled = {
        name: values | ({"num_replicas": 2} if name in ("TokenGenerator", "AudioDecoder") else {})
        for name, values in options.deployment_options(settings).items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve_app.app.deployment_options", lambda _: doubled)
        graph = build_graph(settings)
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(graph, name="csm", route_prefix="/")
    yield Server(f"http://127.0.0.1:{port}", "csm")
    serve.shutdown()
    ray.shutdown()


def replicas(deployment: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if command.startswith("ray::ServeReplica:csm:") and deployment in command:
            found.append(process)
    return found


async def until_two_run(deployment: str) -> None:
    for _ in range(600):
        status = serve.status().applications["csm"].deployments[deployment]
        if status.replica_states.get("RUNNING", 0) == 2 and len(replicas(deployment)) == 2:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"no two replicas of {deployment} after a minute")


async def speak(client: httpx.AsyncClient, server: Server, seed: int) -> tuple[bytes, str]:
    body = {"text": "A long story, told to the end whatever happens. " * 8, "seed": seed, "streaming": True}
    body["max_audio_seconds"] = SECONDS
    async with client.stream("POST", f"{server.url}/generate", json=body, timeout=120) as response:
        assert response.status_code == 200
        sound = b"".join([read async for read in response.aiter_raw()])
    outcome = await client.get(f"{server.url}/requests/{response.headers['x-request-id']}")
    return sound, outcome.json()["finish_reason"]


@pytest.mark.parametrize("deployments", [["TokenGenerator"], ["AudioDecoder"], ["TokenGenerator", "AudioDecoder"]])
async def test_streams_survive_the_replicas_behind_them(server: Server, deployments: list[str]) -> None:
    for deployment in deployments:
        await until_two_run(deployment)
    async with httpx.AsyncClient() as client:
        undisturbed = await asyncio.gather(*(speak(client, server, seed) for seed in range(STREAMS)))
        streams = [asyncio.create_task(speak(client, server, seed)) for seed in range(STREAMS)]
        for deployment in deployments:
            await asyncio.sleep(0.7)
            assert not any(stream.done() for stream in streams)
            random.Random(0).choice(replicas(deployment)).send_signal(signal.SIGKILL)
        disturbed = await asyncio.gather(*streams)
    assert [len(sound) for sound, _ in disturbed] == [44 + SECONDS * 48_000] * STREAMS
    assert disturbed == undisturbed
