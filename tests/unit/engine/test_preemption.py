"""Background sequences make way, and go on later as if nothing had happened."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.engine.steps.graphs import GraphedStep
from serve_app.engine.steps.plain import FrameStep
from serve_app.engine.steps.prefill import PlainPrefill
from serve_app.engine.steps.static_frame import PlainStaticFrame
from serve_app.messages import FinishReason, GenerationRequest
from serve_app.model.csm import Csm
from tests.support.engine_harness import Harness, Stream, random_segment, request
from tests.support.tape import TapeDevice
from tests.support.timed_engine import Timed, spoken

ROWS, POSITIONS = 2, 256


def _graphs(model: Csm, kv: KvCache, state: RowState) -> FrameStep:
    return GraphedStep(PlainStaticFrame(model, kv, state), PlainPrefill(model, kv), TapeDevice(), ROWS, POSITIONS)


KINDS = {"plain": {}, "uncached": {"prefix_cache_mb": 0}, "launched ahead": {"make_step": _graphs}}


@pytest.fixture(scope="module", params=KINDS)
def exact(request: pytest.FixtureRequest, tiny_checkpoint_folder: Path) -> Harness:
    torch.set_num_threads(1)
    options = {"max_batch_size": ROWS, "max_positions": POSITIONS, "max_waiting": 32, "max_lead_seconds": 0.4}
    return Harness(tiny_checkpoint_folder, torch.float64, **options | KINDS[request.param])


@pytest.fixture(scope="module")
def reference(tiny_checkpoint_folder: Path) -> Harness:
    torch.set_num_threads(1)
    return Harness(tiny_checkpoint_folder, torch.float64, prefix_cache_mb=0)


def background(number: int, **sampling: object) -> GenerationRequest:
    asked = request(
        f"Job {number} has time.",
        random_segment(32, 64, 6, number),
        name=f"job {number}",
        **{"seed": number, "max_frames": 9, "min_frames": 9, "repetition_penalty": 1.2} | sampling,
    )
    return replace(asked, priority=1)


def alone(reference: Harness, *asked: GenerationRequest) -> list[list[list[int]]]:
    return [reference.run(replace(one, paced=False))[0].frames for one in asked]


def check_whole(stream: Stream, frames: list[list[int]]) -> None:
    assert stream.error is None
    assert stream.frames == frames
    ends = [0]
    for message in stream.messages:
        assert message.first_frame == ends[-1], "no frame is sent twice, none is left out"
        ends.append(message.first_frame + message.codes.num_frames)
    assert [message.finish for message in stream.messages[:-1]] == [None] * (len(stream.messages) - 1)


@pytest.mark.parametrize("num_steps", [1, 5])
def test_the_last_background_sequence_to_arrive_gives_up_its_row_and_goes_on_later(
    exact: Harness, reference: Harness, num_steps: int
) -> None:
    jobs, urgent = [background(0), background(1)], request("I am in a hurry.", seed=7, max_frames=4)
    expected = alone(reference, *jobs, urgent)
    num_set_aside = exact.engine.stats().set_aside
    streams = [exact.add(job) for job in jobs]
    for _ in range(num_steps):
        exact.engine.step()
    accepted = streams[1].accepted
    assert accepted is not None
    streams.append(exact.add(urgent))
    exact.engine.step()
    sequence = streams[1].sequence
    assert sequence is not None and sequence.num_launched == 0 and streams[2].accepted is not None
    assert streams[1].messages == [] or streams[1].codes.num_frames == sequence.num_frames, "what is done is sent"
    exact.finish()
    for stream, frames in zip(streams, expected, strict=True):
        check_whole(stream, frames)
    assert streams[1].accepted is accepted, "accepted once"
    assert exact.engine.stats().set_aside == num_set_aside + 1
    if exact.settings.prefix_cache_mb and num_steps > 2:
        assert sequence.num_restored == sequence.num_to_prefill, "what it computed is not computed again"


def test_a_sequence_may_be_set_aside_again_and_again(exact: Harness, reference: Harness) -> None:
    job = background(3, max_frames=14, min_frames=14)
    urgent = [request(f"Hurry {number}.", name=f"u{number}", seed=number, max_frames=3) for number in range(6)]
    expected = alone(reference, job, *urgent)
    num_set_aside = exact.engine.stats().set_aside
    streams = [exact.add(job)]
    for number in range(0, 6, 2):
        exact.engine.step()
        exact.engine.step()
        streams += [exact.add(one) for one in urgent[number : number + 2]]
        for _ in range(4):
            exact.engine.step()
    exact.finish()
    assert exact.engine.stats().set_aside >= num_set_aside + 2
    for stream, frames in zip(streams, expected, strict=True):
        check_whole(stream, frames)


@pytest.mark.parametrize(("exact", "seed"), [("plain", 0), ("launched ahead", 1)], indirect=["exact"])
def test_whoever_comes_leaves_pauses_or_makes_way_frames_are_those_computed_alone(
    exact: Harness, reference: Harness, seed: int
) -> None:
    chance = random.Random(seed)
    asked = [
        replace(
            request(
                f"Number {n} of many.",
                *[random_segment(32, 64, 5, n)] * (n % 3),
                name=str(n),
                seed=n,
                max_frames=chance.randint(2, 14),
                repetition_penalty=1.0 + 0.1 * (n % 3),
            ),
            priority=chance.choice([0, 1, 1]),
            paced=chance.random() < 0.6,
            becomes_context=chance.random() < 0.3,
        )
        for n in range(8)
    ]
    expected = alone(reference, *asked)
    streams: list[Stream] = []
    num_steps = 0
    while len(streams) < len(asked) or exact.engine.step():
        if len(streams) < len(asked) and chance.random() < 0.3:
            streams.append(exact.add(asked[len(streams)]))
        elif len(streams) < len(asked):
            exact.engine.step()
        exact.now += chance.choice([0.005, 0.02, 0.06]) + exact.engine.rest_seconds()
        if chance.random() < 0.03:
            leaves = chance.choice(streams or [Stream()]).sequence
            if leaves is not None:
                exact.engine.abort(leaves)
        num_steps += 1
        assert num_steps < 5000
    num_whole = 0
    for stream, frames in zip(streams, expected, strict=True):
        assert stream.sequence is not None and stream.error is None
        if stream.sequence.finish is FinishReason.CANCELLED:
            said = stream.frames if stream.messages else []
            assert said == frames[: len(said)]
        else:
            check_whole(stream, frames)
            num_whole += 1
    assert num_whole > 4
    stats = exact.engine.stats()
    assert (stats.running, stats.waiting, stats.paused) == (0, 0, 0)


def test_what_another_spoke_to_its_end_serves_one_that_is_only_half_way(tiny_checkpoint_folder: Path) -> None:
    """It is kept one position further: its last frame was read too."""
    torch.set_num_threads(1)
    harness = Harness(tiny_checkpoint_folder, torch.float64, max_batch_size=1)
    asked = replace(request("Said twice.", greedy=True, max_frames=9), becomes_context=True)
    expected = harness.run(asked)[0].frames
    harness.reset()
    job = harness.add(replace(asked, priority=1))
    for _ in range(4):
        harness.engine.step()
    urgent = harness.add(asked)
    for _ in range(4):
        harness.engine.step()
    heads = (harness.model.first_head, harness.model.depth_heads)
    weights = [head.clone() for head in heads]
    for head in heads:
        head.zero_()  # greedily that is a frame of zeros, the end of speech
    harness.engine.step()
    for head, weight in zip(heads, weights, strict=True):
        head.copy_(weight)
    assert (urgent.finish, urgent.frames) == (FinishReason.EOS, expected[:4])
    harness.finish()
    check_whole(job, expected)


def test_interactive_sequences_never_make_way_and_earlier_jobs_go_on_first() -> None:
    timed = Timed(max_batch_size=2)
    first, second = timed.add(spoken(10, "first")), timed.add(spoken(10, "job", priority=1))
    timed.engine.step()
    more = [timed.add(spoken(6, "later job", priority=1)), timed.add(spoken(6, "urgent"))]
    timed.engine.step()
    assert first.sequence is not None and second.sequence is not None
    assert (first.sequence.num_frames, second.sequence.num_frames) == (2, 1)
    third = timed.add(spoken(3, "urgent too"))
    timed.engine.step()
    assert third.accepted is None, "both rows are interactive now"
    order: list[str] = []
    while timed.engine.step():
        for stream in (first, second, third, *more):
            name = stream.sequence.request.request_id if stream.sequence else ""
            if stream.accepted is not None and name not in order:
                order.append(name)
    assert order.index("urgent too") < order.index("later job")
    assert all(stream.finish is FinishReason.LENGTH for stream in (first, second, third, *more))


def test_a_reduced_capacity_makes_a_background_sequence_give_way_too() -> None:
    timed = Timed({1: 50.0, 4: 140.0}, max_batch_size=4)
    for number in range(2):
        timed.add(spoken(8, f"measured {number}", priority=-1))
        timed.run_for()
    job = timed.add(spoken(100, "job", priority=1))
    timed.run_for(1.0)
    timed.add(spoken(100, "one", priority=1))
    timed.run_for(1.0)
    urgent = timed.add(spoken(10, "urgent"))
    timed.run_for(0.2)
    stats = timed.engine.stats()
    assert urgent.accepted is not None
    assert stats.running < 4
    timed.run_for()
    assert job.finish is FinishReason.LENGTH


def test_a_background_sequence_that_is_set_aside_outlives_its_own_time_and_goes_on() -> None:
    timed = Timed({1: 20.0}, max_batch_size=1, max_wait_seconds=1)
    job = timed.add(spoken(100, "job", priority=1, timeout_seconds=15))
    timed.run_for(0.5)
    timed.add(spoken(1000, "urgent"))
    timed.run_for(10)
    assert (job.finish, job.error) == (None, None)
    timed.run_for(9)
    assert (job.finish, job.error) == (None, None)
    timed.run_for(30)
    assert job.finish not in (None, FinishReason.CANCELLED) and job.error is None
