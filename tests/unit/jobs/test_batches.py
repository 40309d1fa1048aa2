"""Jobs that are submitted together: all or none, each its own, and known to their key alone."""

import asyncio
from dataclasses import replace

import pytest

from serve_app.errors import InvalidRequest, LimitReached, Overloaded, UnknownBatch
from serve_app.jobs.batches import JobBatches
from serve_app.jobs.job import JobState
from tests.support.jobs_harness import DONE, KEY, Harness, new_job


def batches(harness: Harness) -> JobBatches:
    return JobBatches(harness.database, harness.settings, harness.clock)


async def test_equal_jobs_of_a_batch_are_jobs_of_their_own_in_their_order(harness: Harness) -> None:
    batch_id = await batches(harness).submit([new_job("a"), new_job("b"), new_job("a")], KEY)
    items = await batches(harness).items(batch_id, KEY)
    assert [item.position for item in items] == [0, 1, 2]
    assert len({item.job.id for item in items}) == 3
    texts = {leased.id: leased.input["text"] for leased in [await harness.leased() for _ in range(3)]}
    assert [texts[item.job.id] for item in items] == ["a", "b", "a"]


async def test_a_result_comes_with_its_item(harness: Harness) -> None:
    batch_id = await batches(harness).submit([new_job("a"), new_job("b")], KEY)
    leased = await harness.leased()
    await harness.leases.finish(leased, DONE)
    first, second = await batches(harness).items(batch_id, KEY)
    assert (first.job.state, first.result and first.result.output) == (JobState.COMPLETED, DONE.output)
    assert (second.job.state, second.result) == (JobState.QUEUED, None)


@pytest.mark.parametrize(("limit", "error"), [("max_queued", Overloaded), ("max_queued_per_key", LimitReached)])
async def test_where_not_all_fit_none_is_queued(harness: Harness, limit: str, error: type[Exception]) -> None:
    small = harness.with_settings(**{limit: 2})
    with pytest.raises(error):
        await batches(small).submit([new_job("a"), new_job("b"), new_job("c")], KEY)
    assert await small.queue.recent(KEY, 10) == []
    await batches(small).submit([new_job("a"), new_job("b")], KEY)


async def test_a_repeat_is_the_same_batch_also_at_the_same_time(harness: Harness) -> None:
    jobs = [new_job("a"), new_job("a")]
    ids = await asyncio.gather(*(batches(harness).submit(jobs, KEY, "once") for _ in range(3)))
    assert len(set(ids)) == 1
    assert len(await harness.queue.recent(KEY, 10)) == 2
    theirs = [replace(job, key_id="key-2") for job in jobs]
    assert await batches(harness).submit(theirs, "key-2", "once") not in ids


@pytest.mark.parametrize("texts", [["a"], ["a", "b", "c"], ["a", "c"]])
async def test_an_idempotency_key_stands_for_one_batch(harness: Harness, texts: list[str]) -> None:
    await batches(harness).submit([new_job("a"), new_job("b")], KEY, "once")
    with pytest.raises(InvalidRequest, match="another request"):
        await batches(harness).submit([new_job(text) for text in texts], KEY, "once")
    assert len(await harness.queue.recent(KEY, 10)) == 2


async def test_a_batch_is_unknown_to_other_keys_and_once_its_jobs_are_gone(harness: Harness) -> None:
    batch_id = await batches(harness).submit([new_job("a")], KEY)
    with pytest.raises(UnknownBatch, match="not known to this key"):
        await batches(harness).items(batch_id, "key-2")
    await harness.leases.finish(await harness.leased(), DONE)
    (item,) = await batches(harness).items(batch_id, KEY)

    class NoFiles:
        async def delete(self, file_id: str) -> None:
            raise AssertionError(file_id)

    assert await harness.queue.delete(item.job.id, KEY, NoFiles())
    with pytest.raises(UnknownBatch):
        await batches(harness).items(batch_id, KEY)
