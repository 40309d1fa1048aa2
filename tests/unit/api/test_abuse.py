"""Every attack of `make test-abuse`, all at once for a moment, on a whole server in this process: it serves others, and
holds nothing afterwards. `make test-abuse` measures each alone, on the whole graph."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from serve_app.deployments import proxy_guard
from serve_app.settings import FileSettings, KeySettings, NetSettings, WebhookSettings
from tests.support.attacks import ATTACKS
from tests.support.contract_server import Server, serving
from tests.support.server_process import ROOT

pytestmark = pytest.mark.timeout(240)

SECONDS = 1.0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """As Serve's proxy has it, with little patience."""
    import uvicorn

    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "replaced by the next line")
    proxy_guard.install()
    for name in ("HEADER_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(proxy_guard, name, 1.5)
    with serving(
        tmp_path,
        needs_keys=True,
        keys=KeySettings(required=True),
        net=NetSettings(allowed_hosts=["127.0.0.1"]),
        webhooks=WebhookSettings(timeout_seconds=1, max_retries=0),
        files=FileSettings(quota_bytes=32 * 2**20),
    ) as server:
        yield server


async def attacked(server: Server, key: str) -> dict[str, dict[str, int]]:
    """What each attack saw."""
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", "10", sys.executable, "-m", "tests.support.attacks", "all", server.url, key, str(SECONDS)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    return json.loads(output)


async def until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


def connections(server: Server) -> int:
    port = int(server.url.rpartition(":")[2])
    mine = psutil.Process().net_connections("tcp")
    return sum(c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in mine if c.raddr)


async def test_others_are_heard_amid_all_attacks_and_nothing_is_held_afterwards(server: Server) -> None:
    (_, attacker), (_, other) = server.keys.create("Attacker"), server.keys.create("Other")
    body = {"text": "Hello there, you.", "max_audio_seconds": 1}
    heard = []
    async with httpx.AsyncClient(
        base_url=server.url, headers={"Authorization": f"Bearer {other}"}, timeout=60
    ) as client:
        attacks = asyncio.create_task(attacked(server, attacker))
        while not attacks.done():
            heard.append((await client.post("/generate", json=body)).status_code)
            await asyncio.sleep(0.05)
    assert set(heard) == {200} and len(heard) > 3
    seen = await attacks
    assert all(seen[name] for name in ATTACKS), f"an attack did not happen: {seen}"
    await until(lambda: server.decoder.num_open == 0, "a slot is held")
    await until(lambda: connections(server) == 0, "a connection is open")
    assert psutil.Process(os.getpid()).memory_info().rss < 3 * 2**30
