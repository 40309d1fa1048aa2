"""Every figure on timelines that were worked out by hand."""

from typing import Any

import pytest

from benchmarks.common.records import Chunk, Record
from benchmarks.load.timeline import lateness_seconds, starvation_seconds, summarize


def record(*chunks: tuple[float, float], **changes: Any) -> Record:
    """Chunks as (arrival, seconds of audio); ends with the last one where nothing else is said."""
    values: dict[str, Any] = {
        "request_id": "r",
        "scenario": "sentence",
        "level": 2,
        "warm_up": False,
        "due_at": 0.0,
        "sent_at": 0.0,
        "status": 200,
        "error": None,
        "text_chars": 10,
        "chunks": tuple(Chunk(at, seconds) for at, seconds in chunks),
        "ended_after": chunks[-1][0] if chunks else 1.0,
    }
    return Record(**values | changes)


EARLY = ((0.2, 0.1), (0.25, 0.4), (0.5, 0.5))
"""Deadlines 0.3 and 0.7: 50 and 200 ms early."""
LATE = ((0.1, 0.1), (0.35, 0.1), (0.38, 0.8))
"""Deadlines 0.2 and 0.3: 150 and 80 ms late."""


def test_lateness_is_arrival_less_what_was_to_hear_until_then() -> None:
    assert lateness_seconds(record(*EARLY)) == pytest.approx([-0.05, -0.2])
    assert lateness_seconds(record(*LATE)) == pytest.approx([0.15, 0.08])


def test_starvation_is_the_worst_lateness_and_never_negative() -> None:
    assert starvation_seconds(record(*LATE)) == pytest.approx(0.15)
    assert starvation_seconds(record(*EARLY)) == 0


def test_starvation_is_all_that_a_waiting_player_stands_still() -> None:
    # It waits 0.1 s for the second chunk, and another 0.2 s for the third: 0.3 s after the undisturbed deadline.
    assert starvation_seconds(record((0, 1.0), (1.1, 1.0), (2.3, 1.0))) == pytest.approx(0.3)


def test_a_single_chunk_has_no_starvation() -> None:
    assert starvation_seconds(record((0.5, 3.0))) is None


def test_a_level_of_two_streams() -> None:
    summary = summarize([record(*EARLY), record(*LATE, sent_at=1.0, ended_after=1.0)])
    assert (summary["level"], summary["requests"], summary["ok"], summary["errors"]) == (2, 2, 2, {})
    # 200 and 100 ms: halfway at p50, 95 hundredths of the way at p95.
    assert summary["ttfa_ms"] == pytest.approx({"mean": 150, "p50": 150, "p95": 195, "p99": 199})
    assert summary["first_chunk_ms_of_audio"] == pytest.approx({"p50": 100})
    # Both hold 1 s of audio, taken in 0.5 s and 1 s.
    assert summary["rtf"] == pytest.approx({"mean": 0.75, "p50": 0.75, "p95": 0.975, "p99": 0.995})
    assert summary["end_to_end_s"] == pytest.approx({"p50": 0.75, "p95": 0.975, "p99": 0.995})
    # -200, -50, 80, 150.
    assert summary["lateness_ms"] == pytest.approx({"p50": 15, "p95": 139.5, "p99": 147.9, "max": 150})
    assert summary["underrun_s"] == pytest.approx({"p50": 0.075, "p95": 0.1425, "max": 0.15})
    assert summary["continuity"] == {"c50": 0.5, "c100": 0.5, "c200": 1.0}
    assert summary["viability"] == {"chunks": 0.5, "streams": 0.5}
    # 50, 250, 250 and 30.
    assert summary["inter_chunk_gap_ms"] == pytest.approx({"p50": 150, "p95": 250, "p99": 250})
    assert (summary["streams_judged"], summary["single_chunk_streams"]) == (2, 0)
    # 2 s of audio and two requests from second 0 to second 2.
    assert summary["audio_seconds"] == pytest.approx(2)
    assert summary["audio_seconds_per_second"] == pytest.approx(1)
    assert summary["requests_per_second"] == pytest.approx(1)


@pytest.mark.parametrize("limit_ms", [50, 100, 200])
def test_starving_for_just_the_limit_still_counts_as_continuous(limit_ms: int) -> None:
    # 0.1 + 0.2 is more than 0.3 to a computer.
    just = record((0.1, 0.2), (0.1 + 0.2 + limit_ms / 1000, 1.0))
    assert summarize([just])["continuity"][f"c{limit_ms}"] == 1.0
    over = record((0.1, 0.2), (0.1 + 0.2 + limit_ms / 1000 + 1e-5, 1.0))
    assert summarize([over])["continuity"][f"c{limit_ms}"] == 0.0


def test_a_chunk_that_comes_just_as_the_one_before_ends_is_not_viable() -> None:
    summary = summarize([record((0.0, 0.5), (0.5, 0.5))])
    assert summary["viability"] == {"chunks": 0.0, "streams": 0.0}
    assert summary["continuity"]["c50"] == 1.0


def test_one_late_chunk_costs_the_stream_but_only_one_chunk() -> None:
    summary = summarize([record((0.0, 0.5), (0.1, 0.5), (0.2, 0.5), (2.0, 0.5))])
    assert summary["viability"] == pytest.approx({"chunks": 0.6667, "streams": 0.0})


def test_single_chunk_streams_are_not_judged_and_do_not_pass() -> None:
    summary = summarize([record((0.5, 3.0)), record((0.7, 2.0))])
    assert summary["continuity"] == {"c50": None, "c100": None, "c200": None}
    assert summary["viability"] == {"chunks": None, "streams": None}
    assert summary["lateness_ms"]["max"] is None
    assert summary["underrun_s"] == {"p50": None, "p95": None, "max": None}
    assert (summary["ok"], summary["streams_judged"], summary["single_chunk_streams"]) == (2, 0, 2)
    assert summary["ttfa_ms"]["p50"] == pytest.approx(600)


def test_single_chunk_streams_do_not_thin_out_the_judged_ones() -> None:
    summary = summarize([record((0.5, 3.0)), record(*LATE)])
    assert summary["continuity"] == {"c50": 0.0, "c100": 0.0, "c200": 1.0}
    assert (summary["streams_judged"], summary["single_chunk_streams"]) == (1, 1)


def test_warm_up_counts_nowhere() -> None:
    cold = record((9.0, 0.1), (30.0, 0.1), warm_up=True)
    failed = record(warm_up=True, error="connect")
    assert summarize([cold, failed, record(*EARLY)]) == summarize([record(*EARLY)])


def test_what_failed_counts_as_an_error_and_in_no_good_figure() -> None:
    cut = record((0.01, 5.0), (0.02, 5.0), error="cut_off")
    refused = record(status=429, error="refused")
    alone = summarize([record(*EARLY)])
    summary = summarize([cut, refused, refused, record(*EARLY)])
    assert (summary["requests"], summary["ok"]) == (4, 1)
    assert summary["errors"] == {"cut_off": 1, "refused": 2}
    unchanged = ("ttfa_ms", "rtf", "lateness_ms", "continuity", "viability", "audio_seconds", "streams_judged")
    assert {name: summary[name] for name in unchanged} == {name: alone[name] for name in unchanged}


def test_the_time_that_failures_took_counts_against_throughput() -> None:
    summary = summarize([record((0.5, 1.0), (1.0, 1.0)), record(error="timeout", sent_at=1.0, ended_after=3.0)])
    assert summary["audio_seconds_per_second"] == pytest.approx(0.5)


@pytest.mark.parametrize("records", [[], [record(error="connect", status=None)]], ids=["none", "all failed"])
def test_where_nothing_was_heard_nothing_is_known(records: list[Record]) -> None:
    summary = summarize(records)
    counts = {"level", "requests", "ok", "errors", "streams_judged", "single_chunk_streams"}
    for name, value in summary.items():
        figures = value.values() if isinstance(value, dict) else [value]
        assert name in counts or all(figure is None for figure in figures), name


def test_an_answer_without_audio_has_no_real_time_factor() -> None:
    summary = summarize([record((0.1, 0.0))])
    assert summary["rtf"]["p50"] is None
