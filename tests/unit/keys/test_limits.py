"""What a key may have is one sum over all replicas, whatever becomes of requests and processes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from serve_app.errors import LimitReached
from serve_app.keys import limits
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.settings import KeySettings
from tests.support.key_replicas import Clock, CountingDatabase


@pytest.fixture
def new_key(database: CountingDatabase, clock: Clock) -> Callable[..., Key]:
    return lambda **values: Keys(database, KeySettings(), clock).create("Ann", **values)[0]


@pytest.fixture
def replicas(database: CountingDatabase, clock: Clock) -> tuple[Allowance, Allowance]:
    return Allowance(database, clock), Allowance(database, clock)


@pytest.fixture
async def held() -> AsyncIterator[AsyncExitStack]:
    """Requests that run until the test ends."""
    async with AsyncExitStack() as stack:
        yield stack


async def spend(allowance: Allowance, key: Key, at_most: float, spoken: float) -> None:
    async with allowance.take(key, at_most) as taken:
        taken.settle(spoken)


async def refusal(allowance: Allowance, key: Key, audio_seconds: float = 1) -> LimitReached:
    with pytest.raises(LimitReached) as refused:
        async with allowance.take(key, audio_seconds):
            pass
    return refused.value


async def test_without_limits_the_database_is_not_asked(
    database: CountingDatabase, replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key]
) -> None:
    for allowance, key in ((replicas[0], new_key()), (replicas[0], ANONYMOUS), (Allowance(), ANONYMOUS)):
        await spend(allowance, key, 90, 90)
    assert database.num_reads == database.num_writes == 0


async def test_no_more_requests_at_once_than_allowed_over_all_replicas(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key]
) -> None:
    key, other = new_key(concurrency=2), new_key(concurrency=1)
    async with replicas[0].take(key, 1):
        async with replicas[1].take(key, 1):
            refused = await refusal(replicas[0], key)
            assert str(refused) == "this key may run 2 requests at once: wait until one has ended"
            assert refused.retry_after_seconds == 1
            await spend(replicas[0], other, 1, 1)
        await spend(replicas[0], key, 1, 1)


async def test_of_many_that_come_together_exactly_as_many_get_in(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key]
) -> None:
    key, may_end = new_key(concurrency=3), asyncio.Event()

    async def request(number: int) -> bool:
        try:
            async with replicas[number % 2].take(key, 1):
                await may_end.wait()
        except LimitReached:
            return False
        return True

    requests = [asyncio.create_task(request(number)) for number in range(20)]
    while sum(task.done() for task in requests) < 17:
        await asyncio.sleep(0.01)
    may_end.set()
    assert sum(await asyncio.gather(*requests)) == 3


async def test_of_many_that_come_together_no_more_audio_is_given_out_than_there_is(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key]
) -> None:
    key = new_key(audio_seconds_per_minute=60)
    spent = [spend(replicas[number % 2], key, 10, 10) for number in range(20)]
    ended = await asyncio.gather(*spent, return_exceptions=True)
    assert [type(end) for end in ended].count(type(None)) == 6


async def test_a_refusal_says_when_there_is_enough_again(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key], clock: Clock
) -> None:
    key = new_key(audio_seconds_per_minute=30)
    await spend(replicas[0], key, 25, 25)
    refused = await refusal(replicas[1], key, 10)
    assert str(refused) == "this key may use 30 seconds of audio a minute: try again in 10 s"
    assert refused.retry_after_seconds == 10
    clock.seconds += 9
    assert (await refusal(replicas[1], key, 10)).retry_after_seconds == 1
    clock.seconds += 1
    await spend(replicas[1], key, 10, 10)


async def test_what_was_not_spoken_is_given_back(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key]
) -> None:
    key = new_key(audio_seconds_per_minute=60)
    async with replicas[0].take(key, 50) as taken:
        assert (await refusal(replicas[1], key, 20)).retry_after_seconds == 10
        taken.settle(5)
        taken.settle(10)
    assert (await refusal(replicas[1], key, 51)).retry_after_seconds == 1
    await spend(replicas[1], key, 50, 50)


async def test_a_request_that_fails_pays_for_what_it_had(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key]
) -> None:
    key = new_key(audio_seconds_per_minute=60, concurrency=1)
    with pytest.raises(ValueError, match="broken"):
        async with replicas[0].take(key, 60) as taken:
            taken.settle(20)
            raise ValueError("broken")
    await spend(replicas[1], key, 40, 40)


async def test_giving_back_makes_no_credit(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key], clock: Clock
) -> None:
    key = new_key(audio_seconds_per_minute=60)
    async with replicas[0].take(key, 50):
        clock.seconds += 45  # most of the estimate is paid for by time
    async with replicas[0].take(key, 60):
        await refusal(replicas[0], key, 1)


async def test_an_answer_longer_than_a_minutes_worth_is_let_in_and_paid_for_afterwards(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key], clock: Clock
) -> None:
    key = new_key(audio_seconds_per_minute=30)
    await spend(replicas[0], key, 90, 90)
    assert (await refusal(replicas[0], key, 90)).retry_after_seconds == 180
    clock.seconds += 180
    await spend(replicas[0], key, 90, 90)


async def test_a_replica_that_dies_keeps_nothing_for_long(
    database: CountingDatabase, replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key], clock: Clock
) -> None:
    key = new_key(concurrency=1)
    dead = Allowance(database, clock).take(key, 1)
    await dead.__aenter__()
    await refusal(replicas[0], key)
    clock.seconds += 29.9
    await refusal(replicas[0], key)
    clock.seconds += 0.1
    await spend(replicas[0], key, 1, 1)


async def test_a_long_request_is_held_as_long_as_it_runs(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_RENEWED_SECONDS", 0.01)
    key = new_key(concurrency=1)
    async with replicas[0].take(key, 1):
        for _ in range(5):
            clock.seconds += 20
            await asyncio.sleep(0.1)
            await refusal(replicas[1], key)
    await spend(replicas[1], key, 1, 1)


async def test_renewing_ends_with_the_last_request_and_begins_again(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_RENEWED_SECONDS", 0.01)
    key = new_key(concurrency=2)
    for _ in range(2):
        async with replicas[0].take(key, 1), replicas[0].take(key, 1):
            assert len(replicas[0]._tasks) == 1
        while replicas[0]._tasks:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("num_steps", range(6))
async def test_a_caller_that_leaves_at_any_moment_takes_nothing_with_it(
    replicas: tuple[Allowance, Allowance], new_key: Callable[..., Key], num_steps: int
) -> None:
    key = new_key(concurrency=1, audio_seconds_per_minute=60)

    async def request() -> None:
        async with replicas[0].take(key, 60):
            await asyncio.Event().wait()

    leaving = asyncio.create_task(request())
    for _ in range(num_steps):
        await asyncio.sleep(0.002)
    leaving.cancel()
    await asyncio.sleep(0)
    leaving.cancel()  # what cleans up is cancelled too
    await asyncio.wait([leaving])
    await asyncio.gather(*(task for task in replicas[0]._tasks if task is not replicas[0]._renewing))
    await spend(replicas[1], key, 60, 0)
