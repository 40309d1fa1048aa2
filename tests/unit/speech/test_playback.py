"""The server judges its streams by the load test's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common.records import Chunk, Record
from benchmarks.load.timeline import lateness_seconds, starvation_seconds
from serve_app.speech.playback import Playback

ARRIVALS = st.lists(st.tuples(st.floats(0, 2), st.floats(0.08, 0.4)), min_size=1, max_size=20)


@given(ARRIVALS)
def test_as_the_load_test_has_it(gaps: list[tuple[float, float]]) -> None:
    chunks, at = [], 0.0
    for gap, audio_seconds in gaps:
        at += gap
        chunks.append(Chunk(at, audio_seconds))
    playback = Playback()
    late = [playback.hear(chunk.at, chunk.audio_seconds) for chunk in chunks]
    record = Record("r", "sentence", 1, False, 0, 0, 200, None, 10, tuple(chunks), at)
    assert late[0] is None
    assert late[1:] == pytest.approx(lateness_seconds(record), abs=2e-6)
    assert playback.underrun_seconds == pytest.approx(starvation_seconds(record) or 0.0, abs=2e-6)


def test_the_player_stands_still_as_long_as_the_latest_chunk_is_late() -> None:
    playback = Playback()
    assert [playback.hear(at, 0.08) for at in (5.0, 5.07, 5.2, 5.26)] == pytest.approx([None, -0.01, 0.04, 0.02])
    assert playback.underrun_seconds == pytest.approx(0.04)
    assert playback.audio_seconds == pytest.approx(0.32)


def test_a_player_at_twice_the_speed_needs_the_next_chunk_in_half_the_time() -> None:
    playback = Playback(speed=2)
    assert [playback.hear(at, 0.08) for at in (5.0, 5.03, 5.1)] == pytest.approx([None, -0.01, 0.02])
    assert playback.audio_seconds == pytest.approx(0.24), "of speech, at its own speed"
