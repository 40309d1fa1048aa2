"""Agents that talk over one another, each interrupting and being interrupted: nothing is left behind.

`make agents` runs fifty of them for ten minutes.
"""

import asyncio
import os
import random
import time
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.demo_server import DemoServer
from tests.support.waiting import until
from tests.unit.demo.test_speech_socket import LONG, client

AGENTS = int(os.environ.get("CSM_TESTS_AGENTS", "6"))
SECONDS = float(os.environ.get("CSM_TESTS_AGENT_SECONDS", "3"))


async def agent(url: str, number: int, ends_at: float) -> int:
    """Turns that were begun. Every third socket is dropped in the middle of a turn."""
    chance, num_turns = random.Random(number), 0
    while time.monotonic() < ends_at:
        with suppress(ConnectionClosed):
            async with client(url, seed=number) as one:
                for _ in range(3):
                    await one.send("text", text=LONG)
                    await one.send("end")
                    first = (await one.until_any("turn.began", "error"))["type"]
                    num_turns += first == "turn.began"
                    await asyncio.sleep(chance.random() / 2)
                    if chance.randrange(3) == 0:
                        break
                    await one.send("cancel", played_ms=chance.random() * 500)
                    await one.until_any("turn.ended", "error")
    return num_turns


@pytest.mark.timeout(SECONDS + 300)
async def test_agents_with_barge_in_leave_nothing_behind(server: DemoServer) -> None:
    ends_at = time.monotonic() + SECONDS
    turns = await asyncio.gather(*(agent(server.urls[n % 2], n, ends_at) for n in range(AGENTS)))
    assert sum(turns) >= AGENTS
    await asyncio.to_thread(until, lambda: server.num_running() == 0, "every slot is free")
    assert server.num_taken() == 0
    async with client(server.url) as one:
        assert (await one.say("Still here."))[-1]["finish_reason"] == "eos"
