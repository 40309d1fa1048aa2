"""The load test against a small real server with every bad habit: each ends as an honest record."""

import asyncio
import base64
import io
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.common.records import Record, Run
from benchmarks.load import client_health
from benchmarks.load.arrivals import Arrival
from benchmarks.load.client import ClosedPhase, Limit, OpenPhase
from benchmarks.load.run import LoadTest, failure, measure
from benchmarks.load.targets import OpenAi, Ours, Target, Vox
from benchmarks.load.workloads import Workload, wav_file
from serve_app.audio.wav import wav_header

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
FRAME = b"\1\0" * 1920
"""80 ms."""


class Quiet:
    def phase(self, label: str, requests: int | None, seconds: float | None) -> None: ...

    def record(self, record: Record) -> None: ...


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/generate", handler)
    app.router.add_post("/v1/audio/speech", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def load(handler: Handler, **changes: Any) -> tuple[Run, list[Record]]:
    async with serving(handler) as url:
        return await measure(load_test(url, **changes), Quiet())


def load_test(url: str, **changes: Any) -> LoadTest:
    phases = [ClosedPhase(2, Limit(None, 4))]
    test = LoadTest(name="t", url=url, target=Ours(), workload=Workload(), phases=phases, warm_up_requests=1)
    return replace(test, **changes)


async def one(handler: Handler, target: Target | None = None, timeout: float = 10.0) -> Record:
    """The record of one request after the warm-up's."""
    phases = [ClosedPhase(1, Limit(None, 1))]
    _, records = await load(handler, phases=phases, target=target or Ours(), timeout_seconds=timeout)
    return records[-1]


def streamed(*writes: bytes | float, media_type: str = "audio/wav", cut: bool = False) -> Handler:
    """Writes bytes and waits seconds, in turn; `cut` drops the connection instead of ending the answer."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": media_type})
        await response.prepare(request)
        for part in writes:
            if isinstance(part, bytes):
                await response.write(part)
            else:
                await asyncio.sleep(part)
        if cut and request.transport:
            request.transport.close()
            await asyncio.sleep(0.05)
        return response

    return handler


def after_warm_up(handler: Handler) -> Handler:
    """The first request is answered well."""
    good = streamed(wav_header(None), FRAME)
    requests = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        return await (good if requests == 1 else handler)(request)

    return answer


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.close()
    return web.Response()


def answering(status: int, **answer: Any) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(answer, status=status)

    return handler


GOOD = streamed(wav_header(None), FRAME, 0.03, FRAME * 2, 0.03, FRAME * 4)


async def test_a_paced_stream_is_recorded_chunk_by_chunk() -> None:
    record = await one(GOOD)
    assert (record.status, record.error, record.scenario, record.warm_up) == (200, None, "sentence", False)
    assert [chunk.audio_seconds for chunk in record.chunks] == [0.08, 0.16, 0.32]
    assert all(after.at - before.at >= 0.02 for before, after in pairwise(record.chunks))
    assert record.ended_after >= record.chunks[-1].at >= 0.06


@pytest.mark.parametrize(
    "writes",
    [
        (wav_header(None)[:5], 0.05, wav_header(None)[5:] + FRAME),
        (wav_header(None)[:43], 0.05, wav_header(None)[43:], FRAME),
        (wav_header(None) + FRAME[:7], 0.05, FRAME[7:]),
        (b"".join([wav_header(None), FRAME]),),
    ],
    ids=["in two with audio", "one byte late", "with odd audio", "all in one"],
)
@pytest.mark.parametrize("target", [Ours(), Vox(), OpenAi(response_format="wav")], ids=["ours", "vox", "openai"])
async def test_no_byte_of_a_split_header_counts_as_audio(writes: tuple[bytes | float, ...], target: Target) -> None:
    record = await one(streamed(*writes), target)
    assert record.error is None
    assert sum(chunk.audio_seconds for chunk in record.chunks) == pytest.approx(0.08, abs=1e-5)


async def test_first_audio_is_not_the_header() -> None:
    record = await one(streamed(wav_header(None), 0.1, FRAME))
    assert record.chunks[0].at >= 0.1


async def test_raw_pcm_has_no_header() -> None:
    record = await one(streamed(FRAME, FRAME, media_type="audio/pcm"), OpenAi())
    assert sum(chunk.audio_seconds for chunk in record.chunks) == pytest.approx(0.16)


async def test_an_answer_that_came_whole_is_one_chunk_however_many_reads_it_took() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=wav_file(FRAME * 1000, 24_000), content_type="audio/wav")

    run, records = await load(handler)
    assert [len(record.chunks) for record in records] == [1] * 5
    assert records[-1].chunks[0].audio_seconds == 80.0
    [level] = run.levels
    assert (level["single_chunk_streams"], level["continuity"]["c200"]) == (4, None)


@pytest.mark.parametrize(
    ("handler", "error", "status", "num_chunks"),
    [
        (hangs_up, "disconnected", None, 0),
        (streamed(wav_header(None), FRAME, 0.01, FRAME, 0.01, cut=True), "cut_off", 200, 2),
        (streamed(wav_header(1920 * 3), FRAME, FRAME), "cut_off", 200, 2),
        (answering(429, detail="busy"), "refused", 429, 0),
        (answering(500, detail="broke"), "http_500", 500, 0),
        (answering(200, detail="hello"), "wrong_type", 200, 0),
        (streamed(b"ID3 and so on", media_type="audio/mpeg"), "wrong_type", 200, 0),
        (streamed(wav_header(None)), "no_audio", 200, 0),
        (streamed(media_type="audio/wav"), "no_audio", 200, 0),
        (streamed(wav_header(None), FRAME, 60.0), "timeout", 200, 1),
        (streamed(60.0), "timeout", 200, 0),
    ],
    ids=[
        "hangs up",
        "closes mid-stream",
        "ends early",
        "429",
        "500",
        "json",
        "mp3",
        "header only",
        "empty",
        "hangs in its middle",
        "hangs",
    ],
)
async def test_a_failure_is_a_record_of_its_kind(
    handler: Handler, error: str, status: int | None, num_chunks: int
) -> None:
    record = await one(after_warm_up(handler), timeout=0.4)
    assert (record.error, record.status, len(record.chunks)) == (error, status, num_chunks)


async def test_failures_are_in_no_good_figure_and_keep_what_they_said() -> None:
    run, records = await load(after_warm_up(answering(503, detail="the models are still loading")))
    [level] = run.levels
    assert (level["ok"], level["errors"]) == (0, {"http_503": 4})
    assert level["ttfa_ms"]["p50"] is None and level["requests_per_second"] is None
    assert run.invalid_because == ("no measured request was answered",)
    reason = failure(run, records)
    assert reason == "all 4 requests failed (http_503 4x); the first said: the models are still loading"


async def test_a_server_that_is_not_there_ends_the_run_at_once() -> None:
    async with serving(GOOD) as url:
        pass
    run, records = await measure(load_test(url), Quiet())
    assert [(record.error, record.status) for record in records] == [("connect", None)]
    assert (failure(run, records) or "").startswith(f"no server answers at {url}: ")
    assert run.levels == () and run.invalid_because


async def test_a_server_of_another_kind_ends_the_run_at_once() -> None:
    run, records = await load(answering(200, text="I am a chat model"))
    assert len(records) == 1
    said = failure(run, records) or ""
    assert "does not answer as ours does: application/json where audio was expected" in said
    assert "I am a chat model" in said


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may keep this machine busy: that the client lags is no matter here."""
    for limit in ("MAX_CPU_SHARE", "MAX_LOOP_LAG_P99_MS", "MAX_SEND_LATENESS_P99_MS"):
        monkeypatch.setattr(client_health, limit, 1e9)


@pytest.mark.usefixtures("patient")
async def test_a_good_run_is_valid_and_has_its_levels() -> None:
    phases = [ClosedPhase(level, Limit(None, 6)) for level in (1, 3)]
    run, records = await load(GOOD, phases=phases)
    assert failure(run, records) is None
    assert [(level["level"], level["ok"]) for level in run.levels] == [(1, 6), (3, 6)]
    assert run.levels[1]["continuity"]["c100"] == 1.0
    assert run.client["cpu_share"] > 0
    assert run.client["send_lateness_p99_ms"] is None


async def test_a_key_of_the_environment_goes_with_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wants_a_key(request: web.Request) -> web.StreamResponse:
        return await (GOOD if request.headers.get("Authorization") == "Bearer id:secret" else answering(401))(request)

    phases = [ClosedPhase(1, Limit(None, 2))]
    for key, error in (("", "http_401"), ("id:secret", None)):
        monkeypatch.setenv("SPEECH_API_KEY", key)
        run, records = await load(wants_a_key, phases=phases)
        assert {record.error for record in records} == {error}
        assert "secret" not in repr((run, records))


async def test_a_closed_loop_holds_as_many_streams_as_asked() -> None:
    now, most = 0, 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        try:
            return await GOOD(request)
        finally:
            now -= 1

    await load(handler, phases=[ClosedPhase(5, Limit(0.3, None))])
    assert most == 5


async def test_an_open_loop_sends_when_it_is_due_and_not_when_the_last_one_ended() -> None:
    arrivals = tuple(Arrival(number * 0.02, 50.0) for number in range(10))
    run, records = await load(streamed(0.5, wav_header(None), FRAME), phases=[OpenPhase("50 a second", arrivals)])
    measured = [record for record in records if not record.warm_up]
    assert len(measured) == 10
    assert max(record.sent_at for record in measured) < min(r.sent_at + r.ended_after for r in measured)
    assert all(0 <= record.sent_at - record.due_at < 0.1 for record in measured)
    assert run.client["send_lateness_p99_ms"] is not None


async def test_a_conversation_sends_what_it_heard_one_turn_after_the_other() -> None:
    contexts: list[list[Any]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        contexts.append((await request.json()).get("context", []))
        return await GOOD(request)

    workload = Workload(scenarios=("conversation",), conversation_turns=3)
    _, records = await load(handler, workload=workload, phases=[ClosedPhase(1, Limit(None, 3))])
    assert [len(context) for context in contexts] == [0, 1, 2] * 2
    with wave.open(io.BytesIO(base64.b64decode(contexts[-1][1]["audio"]))) as file:
        assert file.readframes(100_000) == FRAME * 7
    assert [record.context_seconds for record in records] == [0, 0.56, 1.12] * 2
    assert [record.turn for record in records] == [0, 1, 2] * 2
    assert all(after.sent_at >= before.sent_at + before.ended_after - 1e-3 for before, after in pairwise(records))


async def test_a_failed_turn_ends_its_conversation() -> None:
    workload = Workload(scenarios=("conversation",), conversation_turns=3)
    _, records = await load(answering(500), workload=workload, phases=[ClosedPhase(1, Limit(None, 3))])
    assert [(record.turn, record.error) for record in records] == [(0, "http_500")] * 2


@pytest.mark.usefixtures("patient")
async def test_an_interrupted_run_keeps_what_was_measured_and_says_so() -> None:
    asked, many = 0, asyncio.Event()

    async def counted(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 9:  # two are still heard, and two warmed up
            many.set()
        return await GOOD(request)

    async with serving(counted) as url:
        task = asyncio.create_task(measure(load_test(url, phases=[ClosedPhase(2, Limit(60.0, None))]), Quiet()))
        await many.wait()
        task.cancel()
        run, records = await task
    [level] = run.levels
    assert level["ok"] > 2
    assert level["errors"].get("interrupted", 0) <= 2
    assert run.invalid_because == ("interrupted: the last level is not complete",)
    assert (failure(run, records) or "").startswith("invalid: interrupted")


async def test_a_client_whose_loop_is_held_up_makes_its_run_invalid() -> None:
    async def hold_up() -> None:
        while True:
            await asyncio.sleep(0.01)
            time.sleep(0.06)

    blocker = asyncio.create_task(hold_up())
    try:
        run, records = await load(GOOD, phases=[ClosedPhase(2, Limit(None, 6))])
    finally:
        blocker.cancel()
    assert any("2 at once: the client's loop lagged" in reason for reason in run.invalid_because)
    assert (failure(run, records) or "").startswith("invalid: ")
    assert run.levels[0]["ok"] == 6
