"""The thread that owns a model: its order, its step, and what a failure does."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from serve_app.errors import GenerationFailed, ReplicaLost
from serve_app.owner_thread import Inbox, OwnerThread

Start = Callable[..., OwnerThread]


@pytest.fixture
def start() -> Iterator[Start]:
    threads: list[OwnerThread] = []

    def started(**options: Callable[[], object] | float) -> OwnerThread:
        threads.append(OwnerThread("test", **options))  # type: ignore[arg-type]
        return threads[-1]

    yield started
    for thread in threads:
        thread.stop()


async def test_calls_run_in_the_order_they_came_and_all_on_one_thread(start: Start) -> None:
    thread, order, names = start(), [], set()
    for number in range(50):
        thread.post(lambda number=number: order.append(number))
        thread.post(lambda: names.add(threading.current_thread().name))
    assert await thread.call(lambda: len(order)) == 50
    assert order == list(range(50))
    assert names == {"test"}


async def test_an_exception_is_raised_where_the_call_is_awaited_and_harms_nothing_else(start: Start) -> None:
    thread = start()

    def fail() -> None:
        raise ValueError("no such slot")

    with pytest.raises(ValueError, match="no such slot"):
        await thread.call(fail)
    thread.check()
    assert await thread.call(lambda: "still here") == "still here"


async def test_steps_run_for_as_long_as_work_is_left(start: Start) -> None:
    work: list[int] = []
    done = threading.Event()

    def step() -> bool:
        if work and work.pop() == 0:
            done.set()
        return bool(work)

    thread = start(step=step)
    thread.post(lambda: work.extend(range(5)))
    assert await asyncio.to_thread(done.wait, 5)
    assert await thread.call(lambda: list(work)) == []


async def test_no_step_runs_while_nothing_is_to_do(start: Start) -> None:
    num_steps = 0

    def step() -> bool:
        nonlocal num_steps
        num_steps += 1
        return False

    thread = start(step=step)
    before = await thread.call(lambda: num_steps)
    after = await thread.call(lambda: num_steps)
    assert after <= before + 1


async def test_calls_get_their_turn_between_steps(start: Start) -> None:
    is_working = True
    thread = start(step=lambda: is_working)
    assert await thread.call(lambda: "between") == "between"
    is_working = False


async def test_between_steps_it_rests_as_long_as_it_is_told_and_calls_are_answered_at_once(start: Start) -> None:
    num_steps, stepped = 0, threading.Event()
    rests = [0.0, 0.0, 60.0]

    def step() -> bool:
        nonlocal num_steps
        num_steps += 1
        if num_steps >= 3:
            stepped.set()
        return True

    thread = start(step=step, rest_seconds=lambda: rests[min(num_steps, 3) - 1])
    thread.post(lambda: None)
    assert await asyncio.to_thread(stepped.wait, 5)
    async with asyncio.timeout(5):
        assert await thread.call(lambda: num_steps) == 3, "it rests"
        # What a call brings is not left lying for the rest of the rest.
        while await thread.call(lambda: num_steps) < 5:
            await asyncio.sleep(0)


async def test_a_rest_ends_by_itself(start: Start) -> None:
    steps: list[int] = []
    done = threading.Event()

    def step() -> bool:
        steps.append(1)
        if len(steps) == 4:
            done.set()
        return len(steps) < 4

    thread = start(step=step, rest_seconds=lambda: 0.001)
    thread.post(lambda: None)
    assert await asyncio.to_thread(done.wait, 5)


async def test_a_cancelled_call_is_not_run(start: Start) -> None:
    thread, ran = start(), []
    gate = threading.Event()
    thread.post(gate.wait)
    call = asyncio.create_task(thread.call(lambda: ran.append("cancelled")))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    await thread.call(lambda: ran.append("kept"))
    assert ran == ["kept"]


class Broken:
    """A step that fails once there is work."""

    def __init__(self) -> None:
        self.has_work = False
        self.num_steps = 0
        self.failures: list[str] = []
        self.told = threading.Event()

    def step(self) -> bool:
        if self.has_work:
            self.num_steps += 1
            raise RuntimeError("device lost")
        return False

    def on_failure(self) -> None:
        self.failures.append(threading.current_thread().name)
        self.told.set()

    async def break_down(self, thread: OwnerThread) -> None:
        thread.post(lambda: setattr(self, "has_work", True))
        assert await asyncio.to_thread(self.told.wait, 5)


async def test_a_failed_step_is_told_once_and_not_tried_again(start: Start) -> None:
    broken = Broken()
    thread = start(step=broken.step, on_failure=broken.on_failure)
    thread.check()
    await broken.break_down(thread)
    served = threading.Event()
    thread.post(served.set)
    assert await asyncio.to_thread(served.wait, 5), "posts are still served"
    assert (broken.failures, broken.num_steps) == (["test"], 1)


async def test_after_a_failed_step_checks_and_calls_raise(start: Start) -> None:
    broken, ran = Broken(), []
    thread = start(step=broken.step, on_failure=broken.on_failure)
    await broken.break_down(thread)
    with pytest.raises(GenerationFailed, match="being replaced"):
        thread.check()
    with pytest.raises(GenerationFailed, match="being replaced"):
        await thread.call(lambda: ran.append(1))
    assert ran == []


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("in_a_call", [False, True], ids=["step", "call"])
async def test_a_step_that_does_not_end_fails_the_check_and_tells_who_waits(start: Start, in_a_call: bool) -> None:
    clock, gate, entered = Clock(), threading.Event(), threading.Event()
    failures: list[str] = []

    def hang() -> bool:
        entered.set()
        return gate.wait(60)

    step = (lambda: False) if in_a_call else hang
    thread = start(step=step, on_failure=lambda: failures.append("told"), stuck_seconds=60, clock=clock)
    thread.post((lambda: [hang()]) if in_a_call else (lambda: None))
    assert await asyncio.to_thread(entered.wait, 5)
    ran: list[int] = []
    waits = asyncio.create_task(thread.call(lambda: ran.append(1)))
    await asyncio.sleep(0)
    clock.now = 59.0
    thread.check()  # busy is not stuck
    clock.now = 61.0
    for _ in range(2):
        with pytest.raises(ReplicaLost, match="being replaced"):
            thread.check()
    assert failures == ["told"]
    with pytest.raises(ReplicaLost, match="being replaced"):
        await waits
    with pytest.raises(ReplicaLost, match="being replaced"):
        await thread.call(lambda: ran.append(2))
    gate.set()
    thread.stop()
    assert ran == [], "what comes back to life serves nobody any more"


async def test_a_call_that_hangs_is_given_up_by_those_who_wait_for_it(start: Start) -> None:
    clock, gate, entered = Clock(), threading.Event(), threading.Event()
    thread = start(stuck_seconds=60, clock=clock)

    def hang() -> str:
        entered.set()
        gate.wait(60)
        return "too late"

    waits = asyncio.create_task(thread.call(hang))
    assert await asyncio.to_thread(entered.wait, 5)
    clock.now = 61.0
    with pytest.raises(ReplicaLost):
        thread.check()
    with pytest.raises(ReplicaLost):
        await waits
    gate.set()


async def test_resting_and_idling_are_not_being_stuck(start: Start) -> None:
    clock = Clock()
    thread = start(step=lambda: True, rest_seconds=lambda: 0.01, stuck_seconds=60, clock=clock)
    idle = start(stuck_seconds=60, clock=clock)
    for each in (thread, idle):
        await each.call(lambda: None)
    clock.now = 100.0
    await asyncio.sleep(0.05)
    thread.check()
    idle.check()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_dead_thread_fails_the_check_and_tells_who_waits(start: Start) -> None:
    failures: list[str] = []
    thread = start(on_failure=lambda: failures.append("told"))

    def die() -> None:
        raise SystemExit

    thread.post(die)
    await asyncio.to_thread(thread._thread.join, 5)
    with pytest.raises(ReplicaLost, match="being replaced"):
        thread.check()
    assert failures == ["told"]


async def test_why_a_step_failed_is_the_cause_of_what_is_raised(start: Start) -> None:
    broken = Broken()
    thread = start(step=broken.step, on_failure=broken.on_failure)
    await broken.break_down(thread)
    with pytest.raises(ReplicaLost) as caught:
        thread.check()
    assert str(caught.value.__cause__) == "device lost"


def test_stopping_runs_what_was_posted_before(start: Start) -> None:
    ran: list[int] = []
    thread = OwnerThread("stopping")
    thread.post(lambda: ran.append(1))
    thread.stop()
    assert ran == [1]


async def test_an_inbox_delivers_messages_in_order_and_raises_exceptions(start: Start) -> None:
    thread, inbox = start(), Inbox[int]()
    for message in (1, 2, ValueError("broken")):
        thread.post(lambda message=message: inbox.put(message))
    assert [await inbox.get(), await inbox.get()] == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        await inbox.get()


def test_a_message_for_a_loop_that_has_ended_is_dropped() -> None:
    async def open_inbox() -> Inbox[int]:
        return Inbox()

    asyncio.run(open_inbox()).put(1)
