"""Clusters of several nodes, as far as one machine can have them: nodes with cards that come when they are asked for
and go when nobody needs them, and a head that is lost while people listen. Minutes long: `make test-cluster`.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.ray_nodes import RayCluster, ray_cluster, until
from tests.support.ray_server import Server, free_port
from tests.support.stand_in_graph import Heard, expected_sound, first_difference, speak
from tests.support.system_packages import need

pytestmark = pytest.mark.fake_cluster

_FAKE_HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
"""The id that Ray's fake node provider knows its head by."""
STREAMS = 8
SECONDS = 60


def serve_config(cluster: RayCluster, args: dict[str, Any], **options: dict[str, Any]) -> dict[str, Any]:
    deployments = [{"name": name, **values} for name, values in options.items()]
    application = {"name": "csm", "route_prefix": "/", "import_path": "serve_app.app:build", "args": args}
    return {
        "http_options": {"host": "127.0.0.1", "port": cluster.http_port},
        "applications": [application | {"deployments": deployments}],
    }


def is_ready(cluster: RayCluster) -> bool:
    return httpx.get(f"{cluster.url}/ready", timeout=5).is_success


def scaling_config(cluster: RayCluster) -> dict[str, Any]:
    """A head without cards, and up to two nodes with one card each, which are processes of this machine."""
    keys = ("setup_commands", "initialization_commands", "head_setup_commands", "worker_setup_commands")
    keys += ("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude")
    return {name: [] for name in (*keys, "rsync_filter")} | {
        "cluster_name": "scaling",
        "max_workers": 2,
        "idle_timeout_minutes": 0.05,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "launch_multiple": True,
            "head_node_id": _FAKE_HEAD,
            "gcs_address": cluster.gcs_address,
        },
        "head_node_type": "ray.head.default",  # the provider calls its head so
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 4}, "node_config": {}, "max_workers": 0},
            "card": {
                "resources": {"CPU": 2, "GPU": 1, "object_store_memory": 10**8},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 2,
            },
        },
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "auth": {},
    }


def test_cards_come_when_somebody_speaks_and_go_when_nobody_does(tmp_path: Path, tiny_checkpoint_folder: Path) -> None:
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

    assert FAKE_HEAD_NODE_ID == _FAKE_HEAD
    fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1"}
    head = {"RAY_CLOUD_INSTANCE_ID": _FAKE_HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _FAKE_HEAD}
    pushed = {f"RAY_SERVE_{part}_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5" for part in ("HANDLE", "REPLICA")}
    scaling = {"min_replicas": 0, "max_replicas": 1, "upscale_delay_s": 0.5, "downscale_delay_s": 2}
    scaling |= {"look_back_period_s": 2, "target_ongoing_requests": 2}

    def on_card(share: float) -> dict[str, Any]:
        actor = {"num_cpus": 0.2, "num_gpus": share}
        return {"ray_actor_options": actor, "autoscaling_config": scaling, "graceful_shutdown_wait_loop_s": 0.2}

    args = {"model": str(tiny_checkpoint_folder), "device": "cpu", "engine": {"max_batch_size": 2, "threads": 1}}
    with ray_cluster(tmp_path, **fake, **pushed) as cluster:
        config = cluster.folder / "scaling.json"
        config.write_text(json.dumps(scaling_config(cluster)))
        cluster.start_head("--num-cpus=4", "--num-gpus=0", f"--autoscaling-config={config}", **head)
        shares = {"TokenGenerator": on_card(0.6), "AudioDecoder": on_card(0.25), "ContextEncoder": on_card(0.15)}
        cluster.deploy(serve_config(cluster, args, **shares))
        until(lambda: httpx.get(f"{cluster.url}/health", timeout=5).is_success, "the ingress answers")
        assert cluster.num_nodes("GPU") == 0
        body = {"text": "Hello.", "seed": 1, "max_audio_seconds": 1}
        answers = [httpx.post(f"{cluster.url}/generate", json=body, timeout=240) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].content == answers[1].content
        waited = [answer.elapsed.total_seconds() for answer in answers]
        assert cluster.num_nodes("GPU") == 1
        gone = until(lambda: cluster.num_nodes("GPU") == 0, "the node with the card is given back", 300)
    sys.stdout.write(
        f"\nfirst answer from no card {waited[0]:.0f} s, second {waited[1]:.1f} s, node given back {gone:.0f} s\n"
    )


@contextmanager
def redis(folder: Path) -> Iterator[dict[str, str]]:
    """What a head is told of it."""
    need("redis-server")
    port, password = free_port(), "sesame"
    command = ["redis-server", f"--port {port}", f"--requirepass {password}", "--bind 127.0.0.1", f"--dir {folder}"]
    process = subprocess.Popen(" ".join(command).split(), stdout=subprocess.DEVNULL)
    try:
        yield {"address": f"127.0.0.1:{port}", "password": password}
    finally:
        process.kill()
        process.wait()


def listens(cluster: RayCluster, name: str) -> bool:
    pids = {process.pid for process in cluster.processes(name)}
    listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid in pids]
    return cluster.http_port in {connection.laddr.port for connection in listening}


def proxy_of(port: int, connection: httpx.Response) -> int:
    """The process at the other end: the nodes' proxies share a port here."""
    local = connection.extensions["network_stream"].get_extra_info("client_addr")[1]
    found = [c for c in psutil.net_connections("tcp") if c.raddr and c.laddr.port == port and c.raddr.port == local]
    return found[0].pid or 0


class Audience:
    """Listeners of long streams, all through proxies that are not lost: the others' connections would break."""

    def __init__(self, cluster: RayCluster, kept_proxies: set[int]) -> None:
        self.heard = {seed: Heard() for seed in range(STREAMS)}
        self._cluster = cluster
        self._kept_proxies = kept_proxies

    async def gather(self, tasks: asyncio.TaskGroup) -> None:
        """Have all of them listen in `tasks`. Returns once each has heard something."""
        for seed in self.heard:
            tasks.create_task(self._listen(seed))
        while any(len(one.sound) < 44 + 3840 for one in self.heard.values()):
            await asyncio.sleep(0.1)

    def require_whole(self) -> float:
        """Every stream is whole. Returns the longest gap, in seconds."""
        differences = {
            seed: f"{heard.finish}: {first_difference(heard.sound[44:], expected_sound(seed, int(SECONDS * 12.5)))}"
            for seed, heard in self.heard.items()
            if heard.sound[44:] != expected_sound(seed, int(SECONDS * 12.5))
        }
        assert not differences
        return max(heard.longest_gap for heard in self.heard.values())

    async def _listen(self, seed: int) -> None:
        async with aclosing(await self._connected()) as client:
            try:
                await speak(client, Server(self._cluster.url, "csm"), seed, SECONDS, self.heard[seed])
            except httpx.HTTPError as error:
                self.heard[seed].finish = f"broken by {type(error).__name__}"

    async def _connected(self) -> httpx.AsyncClient:
        """A client whose only connection leads to a proxy that is kept. The kernel picks one for each connection."""
        for _ in range(100):
            client = httpx.AsyncClient(limits=httpx.Limits(max_connections=1))
            response = await client.get(f"{self._cluster.url}/-/healthz")
            if proxy_of(self._cluster.http_port, response) in self._kept_proxies:
                return client
            await client.aclose()
        raise AssertionError("a hundred connections, and none came to a proxy that is kept")


NOTICE_SECONDS = 20
LEAD_SECONDS = 4


async def test_a_node_that_is_taken_away_is_heard_by_nobody(tmp_path: Path) -> None:
    """A spot notice: the node is drained, and dies when its time is over. Streams last longer than that."""
    engine = {"max_lead_seconds": LEAD_SECONDS}
    args = {"model": "stand-in", "stand_in": {"step_ms_by_batch": {"1": 40.0}}, "engine": engine}

    def on(resource: str, **options: Any) -> dict[str, Any]:
        return {"ray_actor_options": {"num_cpus": 0.1, "resources": {resource: 0.01}}, **options}

    moving = on("card", graceful_shutdown_timeout_s=8, graceful_shutdown_wait_loop_s=0.2, max_replicas_per_node=1)
    names = ("ContextEncoder", "Ingress", "JobRunner")
    with ray_cluster(tmp_path) as cluster:
        cluster.start_head("--num-cpus=0")
        cluster.start_node("stays", "--num-cpus=4", '--resources={"stays": 1}')
        cluster.start_node("goes", "--num-cpus=4", '--resources={"card": 1, "goes": 1}')
        config = serve_config(
            cluster, args, TokenGenerator=moving, AudioDecoder=moving, **{name: on("stays") for name in names}
        )
        cluster.deploy(config)
        until(lambda: is_ready(cluster), "the graph is ready")
        cluster.start_node("comes", "--num-cpus=4", '--resources={"card": 1}')
        until(lambda: cluster.num_nodes("card") == 2, "a second node is there")
        of_staying = {process.pid for process in cluster.processes("stays")}
        audience = Audience(cluster, of_staying)
        async with asyncio.TaskGroup() as tasks:
            await audience.gather(tasks)
            await asyncio.to_thread(cluster.drain, "goes", NOTICE_SECONDS)
            await asyncio.sleep(NOTICE_SECONDS)
            await asyncio.to_thread(cluster.kill, "goes")
        longest = audience.require_whole()
    latest = max(heard.latest_seconds for heard in audience.heard.values())
    assert latest <= LEAD_SECONDS
    sys.stdout.write(f"\n{STREAMS} streams, longest gap {longest:.1f} s, latest sound {latest:.1f} s late\n")


async def test_streams_go_on_while_the_head_is_lost_and_comes_back(tmp_path: Path) -> None:
    args = {"model": "stand-in", "stand_in": {"step_ms_by_batch": {"1": 40.0}}, "engine": {"max_lead_seconds": 2}}
    on_node = {"ray_actor_options": {"num_cpus": 0.1, "resources": {"worker": 0.01}}}
    names = ("TokenGenerator", "AudioDecoder", "ContextEncoder", "Ingress", "JobRunner")
    with redis(tmp_path) as store, ray_cluster(tmp_path, RAY_REDIS_ADDRESS=store["address"]) as cluster:
        secret = f"--redis-password={store['password']}"
        cluster.start_head("--num-cpus=0", secret)
        cluster.start_node("worker", "--num-cpus=4", '--resources={"worker": 1}')
        cluster.deploy(serve_config(cluster, args, **{name: on_node for name in names}))
        until(lambda: is_ready(cluster), "the graph is ready")
        until(lambda: listens(cluster, "worker"), "the worker's own proxy listens")
        of_worker = {process.pid for process in cluster.processes("worker")}
        audience = Audience(cluster, of_worker)
        async with asyncio.TaskGroup() as tasks:
            await audience.gather(tasks)
            await asyncio.to_thread(cluster.kill, "head")
            await asyncio.sleep(5)
            await asyncio.to_thread(cluster.start_head, "--num-cpus=0", secret)
        longest = audience.require_whole()
        back = await asyncio.to_thread(until, lambda: is_ready(cluster), "the graph is ready again")
        assert {process.pid for process in cluster.processes("worker")} >= of_worker
        async with httpx.AsyncClient() as client:
            after = await speak(client, Server(cluster.url, "csm"), 99, 2, Heard())
        assert after.sound[44:] == expected_sound(99, 25)
    sys.stdout.write(f"\n{STREAMS} streams, longest gap {longest:.1f} s, ready after {back:.0f} s\n")
