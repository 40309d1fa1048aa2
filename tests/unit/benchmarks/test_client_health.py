"""When a client counts as saturated."""

import time

import pytest

from benchmarks.common.records import Record
from benchmarks.load.client_health import Health, Watch


def sent(due_at: float, sent_at: float, turn: int = 0) -> Record:
    return Record("r", "sentence", 900.0, False, due_at, sent_at, 200, None, 5, (), 1.0, turn=turn)


@pytest.mark.parametrize(
    ("health", "said"),
    [
        (Health("4 at once", 0.95, 1.0, 1.0, None), ["4 at once: the client used 0.95 of a core, of at most 0.80"]),
        (Health("x", 0.1, 80.0, 90.0, 1.0), ["x: the client's loop lagged 80 ms at p99, of at most 30"]),
        (
            Health("x", 0.1, 1.0, 1.0, 400.0),
            ["x: the client cannot make this rate: it sent 400 ms late at p99, of at most 50"],
        ),
        (Health("x", 0.8, 30.0, 500.0, 50.0), []),
        (Health("too short to sample", 0.1, None, None, None), []),
    ],
    ids=["processor", "loop", "rate", "just at the limits", "unknown"],
)
def test_a_saturated_client_is_told_by_its_phase_and_figure(health: Health, said: list[str]) -> None:
    assert health.complaints() == said


async def test_a_phase_is_judged_by_the_requests_sent_in_it() -> None:
    records = [sent(0.0, 9.0)]
    watch = Watch()
    async with watch.over("900 a second", records, is_open=True):
        records += [sent(1.0, 1.0 + number / 1000) for number in range(101)]
    assert watch.phases[0].send_lateness_p99_ms == pytest.approx(99)
    [complaint] = [text for text in watch.complaints() if "rate" in text]
    assert complaint.startswith("900 a second: the client cannot make this rate")


async def test_nothing_is_late_in_a_closed_loop_nor_in_later_turns() -> None:
    records: list[Record] = []
    watch = Watch()
    async with watch.over("closed", records, is_open=False):
        records.append(sent(1.0, 9.0))
    async with watch.over("open", records, is_open=True):
        records.append(sent(1.0, 9.0, turn=1))
    assert [phase.send_lateness_p99_ms for phase in watch.phases] == [None, None]
    assert watch.as_dict()["send_lateness_p99_ms"] is None


async def test_work_shows_in_the_share_and_the_worst_phase_leads() -> None:
    watch = Watch()
    for label, seconds in (("busy", 0.1), ("idle", 0.0)):
        async with watch.over(label, [], is_open=False):
            until = time.process_time() + seconds
            while time.process_time() < until:
                pass
    assert watch.as_dict()["cpu_share"] == max(phase.cpu_share for phase in watch.phases) > 0
    assert [phase["label"] for phase in watch.as_dict()["phases"]] == ["busy", "idle"]
