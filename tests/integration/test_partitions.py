"""Nodes that are cut off and join again, links that lose packets or carry them one way: no stream with a reachable
ingress breaks, and nothing is left behind. A head and two nodes, each in a network namespace of its own; with stand-ins
for the models. Run by `make test-partitions`, as root; it prints how long listeners waited."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from serve_app.settings import EngineSettings, Settings, StandInSettings
from tests.support.networks import HEAD_IP, Machine, machines
from tests.support.ray_nodes import RayCluster, ray_cluster
from tests.support.ray_server import Server, free_port, shared_ray
from tests.support.stand_in_graph import Heard, expected_sound, speak, until_nothing_is_held

pytestmark = [pytest.mark.partitions, pytest.mark.timeout(600)]

STREAMS = 6
SECONDS = 12
COMPUTING = ("TokenGenerator", "AudioDecoder")


@dataclass(frozen=True, slots=True)
class Cluster:
    server: Server
    ray: RayCluster
    nodes: list[Machine]

    def start(self, node: Machine) -> None:
        """A node that Ray gives up ends itself. Whoever runs it starts it again."""
        card = ("--num-cpus=2", '--resources={"card": 2}')
        self.ray.start_node(node.name, f"--node-ip-address={node.ip}", *card, within=node.within, is_kept_up=True)

    async def until_whole(self) -> float:
        """Seconds until both nodes work."""
        started = time.monotonic()
        while not self._is_whole():
            assert time.monotonic() < started + 180, "a node does not come back"
            await asyncio.sleep(0.5)
        return time.monotonic() - started

    def _is_whole(self) -> bool:
        from ray import serve

        deployments = serve.status().applications["csm"].deployments
        return all(deployments[name].replica_states == {"RUNNING": 2} for name in COMPUTING)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    import ray
    from ray import serve

    from serve_app.app import build_graph
    from serve_app.deployments.options import deployment_options

    shared_ray.stop()
    settings = Settings(
        model="stand-in",
        stand_in=StandInSettings(step_ms_by_batch={1: 30.0}),
        engine=EngineSettings(max_batch_size=8, threads=1, max_lead_seconds=2),
        data_dir=tmp_path_factory.mktemp("data"),
    )
    placed = {name: values | _placement(name) for name, values in deployment_options(settings).items()}
    port = free_port()
    with (
        machines("node-1", "node-2") as nodes,
        ray_cluster(tmp_path_factory.mktemp("nodes"), HEAD_IP) as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("serve_app.app.deployment_options", lambda _: placed)
        started.start_head(f"--node-ip-address={HEAD_IP}", "--num-cpus=2", '--resources={"head": 1}')
        cluster = Cluster(Server(f"http://127.0.0.1:{port}", "csm"), started, nodes)
        for node in nodes:
            cluster.start(node)
        try:
            ray.init(started.gcs_address, log_to_driver=False, _node_ip_address=HEAD_IP)
            serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
            serve.run(build_graph(settings), name="csm", route_prefix="/")
            yield cluster
        finally:
            ray.shutdown()


def _placement(name: str) -> dict[str, Any]:
    if name in COMPUTING:
        wanted = {"num_cpus": 0.1, "resources": {"card": 1}}
        return {"num_replicas": 2, "max_replicas_per_node": 1, "ray_actor_options": wanted}
    return {"ray_actor_options": {"num_cpus": 0.1, "resources": {"head": 0.1}}}


@asynccontextmanager
async def listeners(cluster: Cluster, what: str) -> AsyncIterator[None]:
    """Streams that begin before the block and again while it runs; all are whole at its end."""
    heard: dict[int, Heard] = {}
    is_over = False

    async def listen(first_seed: int) -> None:
        seed = first_seed
        while seed == first_seed or not is_over:
            heard[seed] = Heard()
            await speak(client, cluster.server, seed, SECONDS, heard[seed])
            seed += STREAMS

    await cluster.until_whole()
    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as tasks:
        for seed in range(STREAMS):
            tasks.create_task(listen(seed))
        while sum(len(one.sound) > 44 + 3840 for one in heard.values()) < STREAMS:
            await asyncio.sleep(0.02)
        yield
        is_over = True
    broken = {
        seed: (one.status, one.finish, len(one.sound))
        for seed, one in heard.items()
        if (one.status, one.finish, one.sound[44:]) != (200, "length", expected_sound(seed, int(SECONDS * 12.5)))
    }
    assert not broken, f"{what}: {len(broken)} of {len(heard)} streams"
    back = await cluster.until_whole()
    await until_nothing_is_held(cluster.server)
    longest = max(one.longest_gap for one in heard.values())
    told = f"{len(heard)} streams whole, longest gap {longest:.1f} s, both nodes work again {back:.0f} s later"
    sys.stdout.write(f"\n{what}: {told}\n")


@pytest.mark.parametrize("seconds", [5, 20, 90])
async def test_a_node_that_is_cut_off_and_joins_again_costs_no_stream(cluster: Cluster, seconds: int) -> None:
    async with listeners(cluster, f"cut off for {seconds} s"):
        cluster.nodes[0].cut()
        try:
            await asyncio.sleep(seconds)
        finally:
            cluster.nodes[0].join()


@pytest.mark.parametrize("percent", [1, 10])
async def test_lost_packets_cost_no_stream(cluster: Cluster, percent: int) -> None:
    async with listeners(cluster, f"{percent}% of packets lost"):
        cluster.nodes[0].lose(percent)
        try:
            await asyncio.sleep(20)
        finally:
            cluster.nodes[0].heal()


async def test_a_node_that_hears_and_is_not_heard_costs_no_stream(cluster: Cluster) -> None:
    async with listeners(cluster, "half-open for 20 s"):
        cluster.nodes[0].say_nothing()
        try:
            await asyncio.sleep(20)
        finally:
            cluster.nodes[0].heal()
