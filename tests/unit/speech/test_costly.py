"""Encoding and reading of long texts serve keys in turn."""

import asyncio
import os
import threading

from serve_app.speech.costly import CostlyWork
from serve_app.turns import working_for


async def test_costly_work_does_not_wait_for_that_of_another_key() -> None:
    costly, done, gate = CostlyWork("costly", "texts wait"), [], threading.Event()

    def work(owner: str) -> None:
        gate.wait()
        done.append(owner)

    async def ask(owner: str) -> None:
        with working_for(owner):
            await costly.done(lambda: work(owner))

    flood = [asyncio.create_task(ask("many")) for _ in range(40)]
    await asyncio.sleep(0)
    one = asyncio.create_task(ask("one"))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*flood, one)
    assert done.index("one") <= max(2, os.cpu_count() or 1)  # behind what had begun
