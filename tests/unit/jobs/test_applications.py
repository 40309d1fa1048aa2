"""Applications of several models share one queue's tables, and each has its own queue in them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.errors import GenerationFailed, InvalidRequest, LimitReached, Overloaded
from serve_app.jobs.transitions import JobLeases
from serve_app.store.database import Database
from tests.support.jobs_harness import KEY, Clock, Harness, PlainWebhookFormat, new_job


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    yield Harness(database, Clock())
    database.close()


def leases_of(harness: Harness, application: str) -> JobLeases:
    return JobLeases(harness.database, harness.settings, PlainWebhookFormat(), harness.clock, application)


async def taken(leases: JobLeases) -> str | None:
    """The text of the job that a runner of that application gets."""
    leased = await leases.lease("runner")
    return None if leased is None else leased.input["text"]


async def test_a_runner_takes_the_jobs_of_its_own_application(harness: Harness) -> None:
    await harness.submitted("hers", application="narrator")
    await harness.submitted("his", application="csm")
    narrator = leases_of(harness, "narrator")
    assert [await taken(narrator), await taken(narrator)] == ["hers", None]
    assert await taken(leases_of(harness, "csm")) == "his"


async def test_a_job_of_an_older_release_is_for_any_runner(harness: Harness) -> None:
    await harness.submitted("old")
    assert await taken(leases_of(harness, "narrator")) == "old"


async def test_each_application_counts_its_own_backlog_and_positions(harness: Harness) -> None:
    for number in range(3):
        await harness.submitted(f"a{number}", application="csm")
    hers = await harness.submitted("b", application="narrator")
    assert (await harness.queue.status(hers, KEY)).position == 0
    assert [status.position for status in await harness.queue.recent(KEY, 10)] == [0, 2, 1, 0]
    assert (await leases_of(harness, "narrator").backlog()).queued == 1
    assert (await leases_of(harness, "csm").backlog()).queued == 3


async def test_limits_count_the_jobs_of_one_application(harness: Harness) -> None:
    small = harness.with_settings(max_queued=1)
    await small.submitted("a", application="csm")
    await small.submitted("b", application="narrator")
    with pytest.raises(Overloaded):
        await small.submitted("a2", application="csm")
    one_each = harness.with_settings(max_queued_per_key=1)
    with pytest.raises(LimitReached):
        await one_each.submitted("b2", application="narrator")


async def test_the_same_request_to_two_applications_is_two_jobs(harness: Harness) -> None:
    """Neither answer was received, so an equal submit to the same application would be the same job."""
    first = await harness.queue.submit(new_job(application="csm"))
    second = await harness.queue.submit(new_job(application="narrator"))
    harness.clock.pass_by(harness.settings.resend_wait_seconds)
    assert (await harness.queue.submit(new_job(application="narrator"))).id == second.id != first.id


async def test_an_idempotency_key_names_the_job_of_one_application(harness: Harness) -> None:
    await harness.queue.submit(new_job(application="csm", idempotency_key="k"))
    with pytest.raises(InvalidRequest, match="idempotency_key"):
        await harness.queue.submit(new_job(application="narrator", idempotency_key="k"))


async def test_a_job_that_is_run_again_stays_with_its_application(harness: Harness) -> None:
    once = harness.with_settings(max_attempts=1)
    job_id = await once.submitted(application="narrator")
    leased = await leases_of(once, "narrator").lease("runner")
    assert leased is not None
    await leases_of(once, "narrator").retry(leased, GenerationFailed("broken"))
    assert (await once.queue.again(job_id, KEY)).application == "narrator"


async def test_a_key_has_a_share_of_each_queue(harness: Harness) -> None:
    """Far into one queue, a new key is not put behind a busy one of the other."""
    busy, narrator = leases_of(harness, "csm"), leases_of(harness, "narrator")
    for number in range(5):
        await harness.submitted(f"a{number}", application="csm", key_id="busy", cost_seconds=100.0)
        await taken(busy)
    for number in range(3):
        await harness.submitted(f"b{number}", application="narrator", key_id="busy", cost_seconds=100.0)
    assert await taken(narrator) == "b0"
    await harness.submitted("c", application="narrator", key_id="new")
    assert await taken(narrator) == "c"
