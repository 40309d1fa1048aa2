"""How many frames a message holds, and after which step it goes."""

from collections import Counter
from itertools import pairwise

import pytest

from serve_app.messages import FRAME_RATE_HZ, Accepted, TokenFrames
from tests.support.engine_harness import Stream
from tests.support.timed_engine import Timed, spoken


class Heard:
    """One stream's messages: when each came, in seconds, and how many frames it held."""

    def __init__(self, timed: Timed, num_frames: int, name: str = "r", paced: bool = True) -> None:
        self._timed = timed
        self.messages: list[tuple[float, int]] = []
        self.stream: Stream = timed.add(spoken(num_frames, name, paced=paced))
        assert self.stream.sequence is not None
        self.stream.sequence.emit = self._take

    def _take(self, message: Accepted | TokenFrames | Exception) -> None:
        self.stream.take(message)
        if isinstance(message, TokenFrames):
            self.messages.append((self._timed.now, message.codes.num_frames))

    @property
    def sizes(self) -> list[int]:
        return [frames for _, frames in self.messages]

    def in_hand_before(self) -> list[float]:
        """Seconds that a listener who plays from the first message on has in hand when each of the others comes."""
        played_out_at, found = 0.0, []
        for now, frames in self.messages:
            found.append(played_out_at - now)
            played_out_at = max(played_out_at, now) + frames / FRAME_RATE_HZ
        return found[1:]


def slow_down(timed: Timed, step_ms: float) -> None:
    timed.runner._settings = timed.runner._settings.model_copy(update={"step_ms_by_batch": {1: step_ms}})


def test_a_stream_that_runs_ahead_gets_large_messages() -> None:
    timed = Timed({1: 20.0})
    heard = Heard(timed, 150)
    timed.run_for()
    assert heard.sizes[:8] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert min(heard.sizes[8:-1]) >= 8
    assert min(heard.in_hand_before()) >= 0


@pytest.mark.parametrize("settings", [{"chunk_frames_ahead": 4}, {"chunk_frames": 12, "chunk_frames_ahead": 1}])
def test_messages_grow_to_the_larger_of_both_settings(settings: dict[str, int]) -> None:
    timed = Timed({1: 20.0}, **settings)
    heard = Heard(timed, 150)
    timed.run_for()
    assert max(heard.sizes) == max(4, settings.get("chunk_frames", 4))


def test_an_answer_that_nobody_hears_before_its_end_has_few_messages() -> None:
    timed = Timed({1: 10.0})
    heard = Heard(timed, 250, paced=False)
    timed.run_for()
    assert heard.sizes[:4] == [12, 12, 12, 12]
    assert sum(heard.sizes) == 250 and len(heard.sizes) <= 13
    before_last = 250 - heard.sizes[-1]
    assert max(heard.sizes) <= before_last / 4 + 1, "what is decoded when all else is done, and lost with a replica"


def test_and_a_slow_engine_sends_it_once_a_second() -> None:
    """Whoever waits for it learns that it goes on, and the codec does not have all its work at the end."""
    timed = Timed({1: 80.0})
    heard = Heard(timed, 500, paced=False)
    timed.run_for()
    assert max(heard.sizes) == 12


def test_a_stream_at_the_pace_of_its_listener_keeps_small_messages() -> None:
    timed = Timed({1: 80.0}, chunk_reserve_ms=0)
    heard = Heard(timed, 100)
    timed.run_for()
    assert max(heard.sizes) == 4


def test_messages_shrink_with_what_the_listener_has_in_hand() -> None:
    timed = Timed({1: 20.0}, max_lead_seconds=4, max_step_ms=0)
    heard = Heard(timed, 400)
    timed.run_for(10)
    slow_down(timed, 120.0)
    timed.run_for()
    sizes = heard.sizes
    assert 12 <= max(sizes) <= 24, "the last one before a pause may be twice as long"
    late = sizes[-20:-1]
    assert max(late) <= 4
    dry_at = next(index for index, seconds in enumerate(heard.in_hand_before()) if seconds < 0)
    # It is slower than speech: the listener must run dry in the end, but not before the messages have become small.
    assert sizes[dry_at] <= 2


def test_a_stream_that_waits_for_its_listener_has_one_message_between_two_pauses() -> None:
    """Beside others, too, whose messages have been sent at half of their size to spread them."""
    timed = Timed({1: 20.0}, max_batch_size=24, max_lead_seconds=4, max_step_ms=0)
    streams = [Heard(timed, 400, str(number)) for number in range(24)]
    timed.run_for(20)
    for heard in streams:
        settled = [(at, frames) for at, frames in heard.messages if at > 8]
        assert min(frames for _, frames in settled) >= 12
        assert min(later - at for (at, _), (later, _) in pairwise(settled)) > 1
        assert min(heard.in_hand_before()) >= 0


def test_messages_of_streams_that_began_together_are_spread_over_the_steps() -> None:
    timed = Timed({1: 40.0}, max_batch_size=24, max_lead_seconds=0)
    streams = [Heard(timed, 300, str(number)) for number in range(24)]
    timed.run_for()
    # They end together too, so the last messages are left out.
    settled = [(at, frames) for heard in streams for at, frames in heard.messages[:-1] if at > 6]
    assert max(Counter(at for at, _ in settled).values()) <= 4
    assert sum(frames for _, frames in settled) / len(settled) > 10
    assert all(min(heard.in_hand_before()) >= 0 for heard in streams)


def test_a_stream_alone_is_never_cut_short() -> None:
    timed = Timed({1: 20.0})
    heard = Heard(timed, 400)
    timed.run_for()
    assert all(second >= first for first, second in pairwise(heard.sizes[:-1]))
