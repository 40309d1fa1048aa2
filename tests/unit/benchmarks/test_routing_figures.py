"""What the routing benchmark reads off the metrics, what it makes of it, and what it asks and starts."""

from pathlib import Path
from typing import Any

from ray.serve._private.constants import DEFAULT_REQUEST_ROUTER_PATH

from benchmarks.common.records import Chunk
from benchmarks.load.one_request import Answer
from benchmarks.routing.__main__ import table
from benchmarks.routing.figures import busiest_share, counters, figures, growth, replicas_with, running
from benchmarks.routing.servers import ROUTERS, Graph, cache_mb, serve_config, voice_positions
from benchmarks.routing.traffic import for_the_encoder, requests, voices
from serve_app.model.checkpoint import open_checkpoint
from serve_app.preflight.serve_config import check_serve_config
from serve_app.settings import load_settings

COUNTERS = (
    "engine_frames_total",
    "engine_prompt_positions_total",
    "engine_restored_positions_total",
    "engine_refused_total",
)
PAGE = """\
# HELP ray_csm_engine_running Sequences that hold a row.
# TYPE ray_csm_engine_running gauge
ray_csm_engine_running{application="csm",deployment="TokenGenerator",replica="aaa",SessionName="s"} 3.0
ray_csm_engine_running{application="csm",deployment="TokenGenerator",replica="bbb",SessionName="s"} 1.0
# HELP ray_csm_engine_frames_total Frames of 80 ms handed out.
# TYPE ray_csm_engine_frames_total counter
ray_csm_engine_frames_total{application="csm",deployment="TokenGenerator",replica="aaa",SessionName="s"} 1.2e+03
# HELP ray_csm_decoder_slots Streams that the audio decoder can take at once.
# TYPE ray_csm_decoder_slots gauge
ray_csm_decoder_slots{application="csm",deployment="AudioDecoder",replica="ccc",SessionName="s"} 14.0
"""


def counts(frames: float, read: float = 0, restored: float = 0, refused: float = 0) -> dict[str, float]:
    return dict(zip(COUNTERS, (frames, read, restored, refused), strict=True))


def answer(first_audio: float = 0.1, error: str | None = None) -> Answer:
    return Answer(error=error) if error else Answer(chunks=[Chunk(first_audio, 0.08)])


def test_metrics_are_read_by_replica() -> None:
    assert running(PAGE) == {"aaa": 3, "bbb": 1}
    assert replicas_with(PAGE, "decoder_slots") == {"ccc"}
    assert counters(PAGE) == {"aaa": counts(1200), "bbb": counts(0)}


def test_a_scenario_is_what_was_counted_since_the_one_before() -> None:
    grown = growth({"aaa": counts(10, 100, 50, 1)}, {"aaa": counts(16, 160, 90, 1), "bbb": counts(6, 40)})
    assert grown == {"aaa": counts(6, 60, 40, 0), "bbb": counts(6, 40)}


def test_a_row_says_what_was_restored_and_who_had_how_many_requests() -> None:
    grown = {"aaa": counts(24, 400, 300), "bbb": counts(8, 100), "ccc": counts(0)}
    row = figures(grown, [answer(0.1), answer(0.2), answer(0.3), answer(0.4)], voice_positions=100)
    assert (row["restored_share"], row["voices_found_share"], row["positions_read_per_request"]) == (0.6, 0.75, 50.0)
    assert row["requests_per_replica"] == [3, 1, 0]
    assert (row["first_audio_p50_ms"], row["first_audio_p95_ms"]) == (250.0, 385.0)
    assert (row["refused"], row["num_errors"]) == (0, 0)


def test_requests_that_failed_are_counted_and_their_times_are_not() -> None:
    answers = [answer(0.1), answer(error="refused"), answer(error="cut_off"), answer(error="cut_off")]
    row = figures({"aaa": counts(8, 20, refused=1)}, answers, voice_positions=0)
    assert (row["refused"], row["refused_by_engines"], row["errors"], row["num_errors"]) == (1, 1, ["cut_off"], 2)
    assert (row["first_audio_p95_ms"], row["requests_per_replica"]) == (100.0, [1])
    assert row["voices_found_share"] is None


def test_where_nothing_was_counted_nothing_is_claimed() -> None:
    row = figures({"aaa": counts(0)}, [answer(error="connect")], voice_positions=100)
    assert (row["restored_share"], row["first_audio_p50_ms"], row["requests_per_replica"]) == (None, None, [])


def test_the_busiest_share_is_of_moments_with_enough_sequences() -> None:
    samples = [{"aaa": 1.0, "bbb": 0.0}, {"aaa": 6.0, "bbb": 4.0}, {"aaa": 5.0, "bbb": 5.0}, {}]
    assert busiest_share(samples, 8) == 0.6
    assert busiest_share(samples, 11) is None
    assert busiest_share([{"aaa": 0.0}], 0) is None


def test_both_routers_are_asked_for_the_same_in_one_shuffled_order() -> None:
    clips = voices(3, 0.5, seed=7)
    items = requests(clips, 4, 0.64, seed=1)
    assert len({clip.wav for clip in clips}) == 3
    assert items == requests(voices(3, 0.5, seed=7), 4, 0.64, seed=1) != requests(clips, 4, 0.64, seed=2)
    assert sorted(clips.index(item.context[0]) for item in items) == [0] * 4 + [1] * 4 + [2] * 4
    assert [item.context for item in requests([None], 2, 0.64, seed=1)] == [(), ()]


def test_the_encoder_gets_every_clip_under_words_that_no_measured_prompt_begins_with() -> None:
    clips = voices(3, 0.5, seed=7)
    heard = [item.context[0] for item in for_the_encoder(clips)]
    assert {clip.wav for clip in heard} == {clip.wav for clip in clips}
    assert not {clip.text for clip in heard} & {clip.text for clip in clips}


def test_a_cache_for_half_the_voices_of_the_demo() -> None:
    checkpoint = open_checkpoint("demo", None)
    (clip,) = voices(1, 10.0, seed=0)
    positions = voice_positions(checkpoint, clip)
    assert positions == 2 + len(f"[0]{clip.text}") + 125
    assert cache_mb(checkpoint, positions * 12) == 10  # 5 KiB a position
    assert cache_mb(checkpoint, 1) == 1


def test_the_configs_are_ones_that_serve_takes_and_differ_by_the_router_alone(tmp_path: Path) -> None:
    graph = Graph("demo", tmp_path, replicas=3, decoders=2, slots=8, prefix_cache_mb=8)
    default, ours = (serve_config(graph, router, 8123) for router in ROUTERS)
    for config in (default, ours):
        (application,) = check_serve_config(config)
        settings = load_settings(application.args)
        assert (settings.engine.prefix_cache_mb, settings.engine.max_step_ms) == (8, 0)
        assert settings.codec.max_streams * graph.decoders >= settings.engine.max_batch_size * graph.replicas
    generator: dict[str, Any] = default["applications"][0]["deployments"][0]
    assert generator.pop("request_router_config")["request_router_class"] == DEFAULT_REQUEST_ROUTER_PATH
    assert default == ours


def test_the_table_has_both_routers_side_by_side_and_no_line_of_nothing() -> None:
    row = figures({"aaa": counts(8, 20)}, [answer()], voice_positions=0) | {"scenario": "no voice", "at_once": 1}
    rows = [row | {"router": name, "busiest_share": None} for name in ("one", "other")]
    found = table(rows)
    assert [str(column.header) for column in found.columns] == ["scenario", "", "one", "other"]
    labels = list(found.columns[1].cells)
    assert "prompt positions restored" in labels and "requests that found their voice" not in labels
