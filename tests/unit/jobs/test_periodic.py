"""A loop that is cancelled ends, whatever else happens at that moment."""

import asyncio

import pytest

from serve_app.errors import StorageFailed
from serve_app.jobs import periodic
from serve_app.jobs.periodic import repeat


async def test_a_loop_that_is_woken_and_cancelled_at_once_ends() -> None:
    wake = asyncio.Event()

    async def nothing() -> bool:
        return False

    task = asyncio.create_task(repeat("nothing", nothing, 60.0, wake))
    await asyncio.sleep(0.01)
    wake.set()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)


async def test_work_is_done_again_at_once_while_there_is_more() -> None:
    done = 0

    async def ten() -> bool:
        nonlocal done
        done += 1
        return done < 10

    task = asyncio.create_task(repeat("ten", ten, 60.0))
    async with asyncio.timeout(10):
        while done < 10:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    assert done == 10
    task.cancel()


async def test_a_database_that_fails_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "PAUSE_SECONDS", 0.01)
    asked = 0

    async def failing() -> bool:
        nonlocal asked
        asked += 1
        raise StorageFailed("gone")

    task = asyncio.create_task(repeat("failing", failing, 60.0))
    async with asyncio.timeout(10):
        while asked < 3:
            await asyncio.sleep(0.001)
    task.cancel()


async def test_a_bug_ends_the_loop() -> None:
    async def buggy() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await repeat("buggy", buggy, 60.0)
