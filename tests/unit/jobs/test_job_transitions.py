"""Whatever callers, runners, deaths and the clock do in whatever order: no job is lost, none ends twice, each ends as
the transition table allows, and each end is told once."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, select

from serve_app.jobs.job import TRANSITIONS, CancelAnswer, JobResult, JobState, LeasedJob
from serve_app.jobs.tables import JOBS, RESULTS, WEBHOOKS
from serve_app.settings import JobSettings
from serve_app.store.database import METADATA, Database
from tests.support.jobs_harness import BROKEN, DONE, ENGINE_BROKE, HOOK, KEY, Clock, Harness, new_job

T = TypeVar("T")


class QueueMachine(RuleBasedStateMachine):
    """The machine's own picture of a job: the states it was seen in, and the result that was recorded first."""

    database: Database
    """Set by the test; emptied by each run."""

    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        with self.database.writing() as connection:
            for table in reversed(METADATA.sorted_tables):
                connection.execute(delete(table))
        self.harness = Harness(self.database, Clock(), JobSettings(max_attempts=2, start_timeout_seconds=100.0))
        self.loop = asyncio.new_event_loop()
        self.seen: dict[str, JobState] = {}
        self.results: dict[str, JobResult] = {}
        self.order: list[str] = []

    def teardown(self) -> None:
        self.loop.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(target=jobs, priority=st.sampled_from(["normal", "low"]), hook=st.booleans())
    def submit(self, priority: str, hook: bool) -> str:
        new = new_job(str(len(self.order)), priority=priority, webhook_url=HOOK if hook else None)
        job = self.wait(self.harness.queue.submit(new))
        assert job.id not in self.seen
        self.seen[job.id] = JobState.QUEUED
        self.order.append(job.id)
        return job.id

    @rule(target=leases, owner=st.sampled_from(["a", "b"]))
    def lease(self, owner: str) -> LeasedJob | None:
        leased = self.wait(self.harness.leases.lease(owner))
        if leased is not None:
            assert self.seen[leased.id] is JobState.QUEUED
        return leased

    @rule(leased=leases, well=st.booleans())
    def finish(self, leased: LeasedJob | None, well: bool) -> None:
        """Also again, and by those who lost it."""
        if leased is not None:
            result = DONE if well else BROKEN
            state = self.wait(self.harness.leases.finish(leased, result))
            assert state in (None, JobState.COMPLETED if well else JobState.FAILED)
            if state is not None:
                assert leased.id not in self.results
                self.results[leased.id] = result

    @rule(leased=leases)
    def fail(self, leased: LeasedJob | None) -> None:
        if leased is not None:
            self.wait(self.harness.leases.retry(leased, ENGINE_BROKE))

    @rule(leased=leases, refused=st.booleans())
    def put_back(self, leased: LeasedJob | None, refused: bool) -> None:
        if leased is not None:
            held = self.harness.leases
            self.wait(held.refuse(leased, "busy", 2.0) if refused else held.give_back(leased, "stopped"))

    @rule(leased=leases)
    def heartbeat(self, leased: LeasedJob | None) -> None:
        if leased is not None:
            self.wait(self.harness.leases.heartbeat([leased]))

    @rule(leased=consumes(leases))
    def die(self, leased: LeasedJob | None) -> None:
        """A runner that is never heard of again."""

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        before = self.seen[job_id]
        answer = self.wait(self.harness.queue.cancel(job_id, KEY))
        expected = {JobState.QUEUED: CancelAnswer.CANCELLED, JobState.RUNNING: CancelAnswer.REQUESTED}
        assert answer is expected.get(before, CancelAnswer.ALREADY_COMPLETED)

    @rule(seconds=st.sampled_from([1.0, 20.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.harness.clock.pass_by(seconds)
        self.wait(self.harness.leases.expire())

    @invariant()
    def every_job_is_where_it_may_be(self) -> None:
        with self.database.reading() as connection:
            rows = connection.execute(select(JOBS)).all()
            results = dict(connection.execute(select(RESULTS.c.number, RESULTS.c.body)).all())
            hooks = set(connection.scalars(select(WEBHOOKS.c.id)))
        assert {row.id for row in rows} == set(self.order)
        for row in rows:
            before, state = self.seen[row.id], JobState(row.state)
            assert state is before or _leads(before, state), f"{before} to {state}"
            assert (row.number in results) is state.is_final is (row.ended_at is not None)
            assert (row.id in hooks) is (state.is_final and row.webhook_url is not None)
            assert (row.owner is not None) is (row.lease_until is not None) is (state is JobState.RUNNING)
            assert row.failures <= row.max_attempts
            self.seen[row.id] = state
        for job_id, result in self.results.items():
            assert self.wait(self.harness.queue.result(job_id, KEY)) == result

    @invariant()
    def positions_count_those_before(self) -> None:
        queued = [job_id for job_id in self.order if self.seen[job_id] is JobState.QUEUED]
        statuses = {job_id: self.wait(self.harness.queue.status(job_id, KEY)) for job_id in queued}
        in_turn = sorted(queued, key=lambda job_id: statuses[job_id].job.priority == "low")  # stable
        assert [statuses[job_id].position for job_id in in_turn] == list(range(len(in_turn)))


def _leads(before: JobState, after: JobState) -> bool:
    """In one step or in two: an expired job may be put back and found too late at once."""
    return after in TRANSITIONS[before] or any(after in TRANSITIONS[between] for between in TRANSITIONS[before])


@pytest.fixture
def max_examples(database: Database) -> int:
    return 40 if database.is_sqlite else 15


def test_no_order_of_events_loses_a_job_or_ends_one_twice(database: Database, max_examples: int) -> None:
    machine = type("Machine", (QueueMachine,), {"database": database})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        ),
    )
