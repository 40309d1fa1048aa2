"""How long a listener waits on a server of one machine, where the only audio decoder is killed and another one has to
start: run by `make test-kills`, which prints it. Started as a user starts it, with the demo voice."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.ray_server import free_port
from tests.support.server_process import BIN, environment, running

pytestmark = [pytest.mark.kills, pytest.mark.timeout(400)]

ROUNDS = 3
STREAMS = 2
TEXT = "The boat is on the water. The man has a dog. We go to the house. " * 12


def _decoder(server_pid: int) -> psutil.Process:
    """The living one. Serve's replicas call themselves so once they run."""
    (found,) = [
        child
        for child in psutil.Process(server_pid).children(recursive=True)
        if child.is_running() and "ServeReplica:csm:AudioDecoder" in " ".join(child.cmdline())
    ]
    return found


async def _listen(client: httpx.AsyncClient, url: str, seed: int, read_at: list[float]) -> int:
    """The status. Times of all reads are kept."""
    body = {"text": TEXT, "seed": seed, "streaming": True, "max_audio_seconds": 100}
    async with client.stream("POST", f"{url}/generate", json=body, timeout=120) as answer:
        async for _ in answer.aiter_raw():
            read_at.append(time.monotonic())
        return answer.status_code


async def test_streams_go_on_once_another_decoder_has_started(tmp_path: Path) -> None:
    port = free_port()
    url, command = f"http://127.0.0.1:{port}", [str(BIN / "csm-serve"), "serve", "--model", "demo", "--port", str(port)]
    waits: list[float] = []
    # No stream pauses because its listener has enough.
    with running(command, url, environment(tmp_path, CSM_ENGINE__MAX_LEAD_SECONDS="120")) as server:
        async with httpx.AsyncClient() as client:
            for _ in range(ROUNDS):
                reads: list[list[float]] = [[] for _ in range(STREAMS)]
                tasks = [asyncio.create_task(_listen(client, url, n, read_at)) for n, read_at in enumerate(reads)]
                while min(map(len, reads)) < 12:
                    await asyncio.sleep(0.02)
                os.kill(_decoder(server.pid).pid, signal.SIGKILL)
                killed_at = time.monotonic()
                assert await asyncio.gather(*tasks) == [200] * STREAMS
                waits += [min(at for at in read_at if at > killed_at + 0.3) - killed_at for read_at in reads]
    shown = ", ".join(f"{wait:.1f}" for wait in sorted(waits))
    sys.stdout.write(f"\nthe only decoder killed: streams go on after {shown} s\n")
