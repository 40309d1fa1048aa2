"""From measured steps to the number of rows that may be taken."""

import pytest

from serve_app.engine.step_times import StepTimes

LIMIT_MS = 72.0


class Measured:
    """Steps follow one another, each as long as it is said to be."""

    def __init__(self, max_rows: int = 16) -> None:
        self.times = StepTimes(max_rows)
        self.now = 0.0
        self.times.note_end(1, self.now)

    def steps(self, rows: int, *ms: float) -> None:
        for duration in ms:
            self.now += duration / 1000
            self.times.note_end(rows, self.now)

    def size(self, rows: int, ms: float, num_steps: int = 15) -> None:
        self.steps(rows, *[ms] * num_steps)

    @property
    def capacity(self) -> int:
        return self.times.capacity(LIMIT_MS)


def test_before_anything_is_measured_every_row_may_be_taken() -> None:
    measured = Measured()
    assert (measured.capacity, measured.times.estimate_ms(3)) == (16, 0)


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, 20), (2, 20), (3, 25), (4, 30), (6, 40), (8, 50), (10, 60), (16, 90)], ids=str
)
def test_sizes_that_were_never_run_are_estimated_linearly_from_the_nearest(rows: int, expected: float) -> None:
    measured = Measured()
    for size, ms in ((2, 20), (8, 50), (4, 30)):
        measured.size(size, ms)
    assert measured.times.estimate_ms(rows) == pytest.approx(expected)


def test_rows_are_taken_while_a_step_stays_below_the_limit() -> None:
    measured = Measured()
    measured.size(1, 20)
    measured.size(16, 110)
    assert measured.times.estimate_ms(9) < LIMIT_MS < measured.times.estimate_ms(10)
    assert measured.capacity == 9


def test_one_may_always_run_and_no_limit_is_no_limit() -> None:
    measured = Measured()
    measured.size(1, 500)
    assert measured.capacity == 1
    assert measured.times.capacity(0) == 16


def test_a_size_that_was_never_run_is_tried_one_row_at_a_time() -> None:
    measured = Measured()
    for rows in range(1, 6):
        measured.size(rows, 20 + rows, num_steps=5)
        assert measured.capacity == rows + 1
    measured.size(6, 80, num_steps=4)
    assert measured.capacity == 6, "not believed yet"
    measured.size(6, 80, num_steps=1)
    assert measured.capacity == 5


def test_a_stall_and_the_first_compile_do_not_reduce_the_capacity() -> None:
    measured = Measured()
    measured.size(8, 30)
    measured.steps(4, 2000, 900, 25, 25, 25)
    assert measured.capacity >= 8
    measured.steps(8, *[700] * 7)
    assert measured.capacity >= 8
    assert measured.times.estimate_ms(8) == pytest.approx(30)


def test_a_slowdown_is_noticed_within_eight_steps_and_so_is_its_end() -> None:
    measured = Measured()
    measured.size(1, 10)
    measured.size(8, 40)
    measured.size(4, 100, num_steps=8)
    assert measured.capacity < 4, "what larger batches took before is no comfort"
    measured.size(4, 25, num_steps=8)
    assert measured.capacity >= 5


def test_a_size_that_was_too_slow_long_ago_is_tried_again_row_by_row() -> None:
    measured = Measured()
    measured.size(8, 200)
    measured.size(1, 10)
    measured.size(2, 12)
    measured.size(3, 70)
    assert measured.capacity == 3
    measured.size(2, 12, num_steps=900)
    assert measured.capacity == 3
    measured.size(2, 12, num_steps=200)
    for rows in range(3, 9):
        assert measured.capacity == rows
        measured.size(rows, 10 + rows, num_steps=5)
    assert measured.capacity == 9


def test_what_stood_open_long_ago_stands_open_still() -> None:
    measured = Measured()
    measured.size(1, 10)
    measured.size(16, 40)
    measured.size(1, 10, num_steps=3000)
    assert measured.capacity == 16


def test_more_rows_are_never_estimated_to_take_less_and_the_later_measurement_counts() -> None:
    measured = Measured()
    measured.size(4, 60)
    measured.size(8, 30)
    estimates = [measured.times.estimate_ms(rows) for rows in range(1, 17)]
    assert estimates == sorted(estimates)
    assert measured.times.estimate_ms(4) == pytest.approx(30)


def test_time_at_rest_is_no_step() -> None:
    measured = Measured()
    measured.size(1, 20)
    measured.times.note_rest()
    for _ in range(15):
        measured.now += 60
        measured.times.note_end(1, measured.now)
        measured.times.note_rest()
    assert measured.times.estimate_ms(1) == pytest.approx(20)
