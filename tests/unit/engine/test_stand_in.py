"""The engine that costs nothing: the real scheduling, made-up codes, time by a table."""

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serve_app.engine.prompt import ModelLimits, build_prompt
from serve_app.engine.sequence import Sequence
from serve_app.engine.service import TokenService
from serve_app.engine.stand_in import CODEBOOK_SIZE, StandInRunner, StandInTokenizer, step_ms
from serve_app.errors import Overloaded
from serve_app.messages import Accepted, Codes, FinishReason, GenerationRequest, SamplingParams, TokenFrames
from serve_app.settings import EngineSettings, Settings, StandInSettings


def service(stand_in: dict[str, Any] | None = None, **engine: Any) -> TokenService:
    section = StandInSettings(**(stand_in or {}))
    return TokenService.load(Settings(model="stand-in", stand_in=section, engine=EngineSettings(**engine)))


def asked(max_frames: int = 40, seed: int = 7) -> GenerationRequest:
    return GenerationRequest("r", "Hello there.", 0, sampling=SamplingParams(max_frames=max_frames, seed=seed))


async def collected(messages: AsyncGenerator[Accepted | TokenFrames, None]) -> list[TokenFrames]:
    return [message async for message in messages if isinstance(message, TokenFrames)]


def codes(messages: list[TokenFrames]) -> list[list[int]]:
    return Codes(b"".join(m.codes.data for m in messages), 32).to_array().tolist()


class FakeTime:
    """Sleeping is what makes it pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def sequence(seed: int = 0) -> Sequence:
    request = asked(seed=seed)
    prompt = build_prompt(request, StandInTokenizer(), ModelLimits(32, CODEBOOK_SIZE, 2048))
    return Sequence(request, prompt, lambda _: None, 0.0)


@pytest.mark.parametrize(
    ("batch", "expected"), [(1, 10), (2, 10), (3, 15), (4, 20), (6, 30), (8, 40), (64, 40)], ids=str
)
def test_step_times_are_linear_between_the_sizes_and_held_at_the_ends(batch: int, expected: float) -> None:
    assert step_ms({8: 40.0, 2: 10.0, 4: 20.0}, batch) == expected


def test_an_empty_table_takes_no_time() -> None:
    assert step_ms({}, 5) == 0


def test_steps_keep_the_pace_whatever_the_engine_does_between_them() -> None:
    time_ = FakeTime()
    runner = StandInRunner(StandInSettings(step_ms_by_batch={1: 80}), lambda: time_.now, time_.sleep)
    ends = []
    for busy_seconds in (0.0, 0.01, 0.07, 0.0, 0.03):
        time_.now += busy_seconds
        runner.launch([sequence()])
        ends.append(time_.now - 1000)
    assert ends == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4])


def test_a_step_after_a_pause_takes_its_full_time_and_none_is_caught_up() -> None:
    time_ = FakeTime()
    runner = StandInRunner(StandInSettings(step_ms_by_batch={1: 80}), lambda: time_.now, time_.sleep)
    runner.launch([sequence()])
    time_.now += 0.5
    started = time_.now
    runner.launch([sequence()])
    runner.launch([sequence()])
    assert time_.now - started == pytest.approx(0.16)


async def test_frames_depend_on_the_seed_alone_and_never_look_like_an_end_or_a_runaway() -> None:
    generator = service(max_batch_size=8)
    alone = codes(await collected(generator.generate(asked(200))))
    many = await asyncio.gather(*(collected(generator.generate(asked(200, seed))) for seed in (7, 8, 2**62)))
    assert len(alone) == 200
    assert codes(many[0]) == alone
    assert len({str(codes(one)) for one in many}) == 3
    assert 1 <= np.min(alone) <= np.max(alone) < CODEBOOK_SIZE
    assert all(one != other for one, other in itertools.pairwise(alone))
    assert {messages[-1].finish for messages in many} == {FinishReason.LENGTH}
    generator.stop()


@pytest.mark.parametrize(("frames", "finish"), [(12, FinishReason.EOS), (None, FinishReason.LENGTH)], ids=str)
async def test_an_utterance_is_as_long_as_the_setting_or_as_the_request_allows(
    frames: int | None, finish: FinishReason
) -> None:
    generator = service({"frames": frames})
    messages = await collected(generator.generate(replace(asked(40), paced=True)))
    assert (sum(m.codes.num_frames for m in messages), messages[-1].finish) == (frames or 40, finish)
    assert [m.codes.num_frames for m in messages][:6] == [1, 1, 2, 2, 4, 2 if frames else 4]
    generator.stop()


async def test_a_resumed_stream_continues_with_the_same_codes() -> None:
    generator = service()
    whole = await collected(generator.generate(asked(20)))
    heard = Codes.from_array(np.array(codes(whole)[:8]))
    rest = await collected(
        generator.generate(GenerationRequest("r", "Hello there.", 0, sampling=asked(20).sampling, resume=heard))
    )
    assert codes(rest) == codes(whole)[8:]
    generator.stop()


async def test_slots_waiting_and_refusal_are_the_real_ones() -> None:
    generator = service({"step_ms_by_batch": {1: 5}}, max_batch_size=1, max_waiting=0)
    async with aclosing(generator.generate(asked(1000))) as stream:
        await anext(stream)
        with pytest.raises(Overloaded):
            await anext(generator.generate(asked()))
    assert (await generator.stats()).running == 0
    assert len(codes(await collected(generator.generate(asked(3))))) == 3
    generator.stop()


async def test_after_its_warm_up_it_lets_in_as_many_as_keep_real_time_and_refuses_the_others() -> None:
    generator = service({"step_ms_by_batch": {1: 5, 3: 150}}, max_batch_size=3, max_waiting=1, max_step_ms=100)
    await generator.warm_up()
    assert (await generator.stats()).capacity == 2
    streams = [generator.generate(asked(1000, seed)) for seed in range(2)]
    for stream in streams:
        await anext(stream)
    waits = asyncio.create_task(anext(generator.generate(asked(5))))
    while (await generator.stats()).waiting < 1:
        await asyncio.sleep(0.001)
    with pytest.raises(Overloaded) as refused:
        await anext(generator.generate(asked()))
    assert refused.value.retry_after_seconds > 10
    await streams[0].aclose()
    assert isinstance(await waits, Accepted)
    stats = await generator.stats()
    assert (stats.running, stats.waiting, stats.refused) == (2, 0, 1)
    for stream in streams:
        await stream.aclose()
    generator.stop()


async def test_while_all_streams_pause_newcomers_are_served_at_once_and_leaving_frees_a_slot() -> None:
    generator = service({}, max_batch_size=2, max_lead_seconds=30)
    paused = generator.generate(replace(asked(1000), paced=True))
    await anext(paused)
    while (await generator.stats()).paused < 1:
        await asyncio.sleep(0.001)
    started = time.monotonic()
    assert len(codes(await collected(generator.generate(asked(3))))) == 3
    await paused.aclose()
    assert (await generator.stats()).running == 0
    assert time.monotonic() - started < 5
    generator.stop()


async def test_a_background_stream_makes_way_and_its_listener_notices_nothing_but_the_wait() -> None:
    generator = service({"step_ms_by_batch": {1: 1}}, max_batch_size=1)
    job = asyncio.create_task(collected(generator.generate(replace(asked(200), priority=1))))
    while not (await generator.stats()).running:
        await asyncio.sleep(0.001)
    urgent = codes(await collected(generator.generate(asked(20, seed=3))))
    assert (len(urgent), job.done()) == (20, False)
    assert codes(await job) == codes(await collected(generator.generate(asked(200))))
    assert (await generator.stats()).set_aside == 1
    generator.stop()


async def test_a_step_leaves_the_event_loop_free() -> None:
    generator = service({"step_ms_by_batch": {1: 100}})
    stream = asyncio.create_task(collected(generator.generate(asked(2))))
    num_turns, started = 0, time.monotonic()
    while not stream.done() and time.monotonic() - started < 5:
        await asyncio.sleep(0.001)
        num_turns += 1
    assert stream.done()
    # Holding the interpreter's lock for the step's time would leave a handful.
    assert num_turns > 20
    generator.stop()


async def test_it_says_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    generator = service()
    info = await generator.info()
    assert (info.model, info.weights, info.num_codebooks) == ("stand-in", "stand-in", 32)
    assert "stand-in" in caplog.text
    generator.stop()


def test_it_runs_without_torch() -> None:
    program = """
import sys
from serve_app.engine.service import TokenService
from serve_app.settings import Settings
TokenService.load(Settings(model="stand-in", stand_in={})).stop()
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
