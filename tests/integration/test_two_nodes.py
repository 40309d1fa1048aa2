"""A head and two nodes: replicas stand where the resource is that they ask for, and the loss of a node costs no
listener a frame. With stand-ins for the models, as in test_killed_replicas.py."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest

from serve_app.settings import EngineSettings, Settings, StandInSettings
from tests.support.ray_server import Server, free_port, shared_ray
from tests.support.stand_in_graph import Heard, expected_sound, speak

# Placement by resource and the loss of a node; that a lost replica costs no frame is test_killed_replicas.py's.
pytestmark = pytest.mark.slow

STREAMS = 6
SECONDS = 8
_REPLICA = re.compile(r"ray::ServeReplica:nodes:(\w+)")
COMPUTING = ("TokenGenerator", "AudioDecoder")


@dataclass(frozen=True, slots=True)
class TwoNodes:
    server: Server
    cluster: Any
    head: Any
    nodes: list[Any]


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoNodes]:
    """Each node has two cards, and no deployment may have both of its replicas on one."""
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    from serve_app.app import build_graph
    from serve_app.deployments.options import deployment_options

    settings = Settings(
        model="stand-in",
        stand_in=StandInSettings(step_ms_by_batch={1: 30.0}),
        engine=EngineSettings(max_batch_size=8, threads=1, max_lead_seconds=2),
    )
    placed = {name: values | _placement(name) for name, values in deployment_options(settings).items()}
    monkeypatch.setattr("serve_app.app.deployment_options", lambda _: placed)
    graph, port = build_graph(settings), free_port()
    shared_ray.stop()
    cluster = Cluster()
    try:
        head = cluster.add_node(num_cpus=2, resources={"head": 1}, include_dashboard=False)
        nodes = [cluster.add_node(num_cpus=2, resources={"card": 2}) for _ in range(2)]
        ray.init(cluster.address, log_to_driver=False)
        # The nodes are one machine: proxies of all three would share the port.
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        serve.run(graph, name="nodes", route_prefix="/")
        yield TwoNodes(Server(f"http://127.0.0.1:{port}", "nodes"), cluster, head, nodes)
        serve.shutdown()
    finally:
        ray.shutdown()
        cluster.shutdown()


def _placement(name: str) -> dict[str, Any]:
    if name in COMPUTING:
        wanted = {"num_cpus": 0.1, "resources": {"card": 1}}
        return {"num_replicas": 2, "max_replicas_per_node": 1, "ray_actor_options": wanted}
    return {"ray_actor_options": {"num_cpus": 0.1, "resources": {"head": 0.1}}}


def raylet(node: Any) -> psutil.Process:
    (process,) = node.all_processes["raylet"]
    return psutil.Process(process.process.pid)


def replicas_on(node: Any) -> list[str]:
    """Their deployments."""
    titles = [" ".join(child.cmdline()) for child in raylet(node).children()]
    return sorted(found[1] for title in titles if (found := _REPLICA.match(title)))


async def test_replicas_stand_where_their_resource_is_and_a_lost_node_costs_no_frame(two_nodes: TwoNodes) -> None:
    assert replicas_on(two_nodes.head) == ["ContextEncoder", "Ingress", "JobRunner"]
    assert [replicas_on(node) for node in two_nodes.nodes] == [sorted(COMPUTING)] * 2

    heard = {seed: Heard() for seed in range(STREAMS)}
    async with httpx.AsyncClient() as client:
        async with asyncio.TaskGroup() as tasks:
            for seed in heard:
                tasks.create_task(speak(client, two_nodes.server, seed, SECONDS, heard[seed]))
            while any(len(one.sound) < 44 + 3840 for one in heard.values()):
                await asyncio.sleep(0.02)
            lost = raylet(two_nodes.nodes[0])
            for process in [lost, *lost.children()]:
                process.kill()
        after = await speak(client, two_nodes.server, 99, 2, Heard())
    assert after.sound[44:] == expected_sound(99, 25)
    for seed, one in heard.items():
        assert (one.status, one.finish) == (200, "length")
        assert one.sound[44:] == expected_sound(seed, int(SECONDS * 12.5))
