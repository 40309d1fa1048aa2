"""Frames from recorded graphs equal those of the plain step, whoever joins and leaves; `tape` keeps a graph's rules."""

import random
from pathlib import Path

import pytest
import torch

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.engine.steps.graphs import GraphedStep, num_graphs, readable_buckets, row_buckets
from serve_app.engine.steps.plain import FrameStep
from serve_app.engine.steps.prefill import PlainPrefill
from serve_app.engine.steps.static_frame import PlainStaticFrame
from serve_app.messages import FinishReason
from serve_app.model.csm import Csm
from tests.support.engine_harness import Harness, random_segment, request
from tests.support.tape import TapeDevice

ROWS, POSITIONS = 4, 300


class Graphs:
    """Makes the step, and keeps what it was made of."""

    def __init__(self) -> None:
        self.device = TapeDevice()

    def __call__(self, model: Csm, kv: KvCache, state: RowState) -> FrameStep:
        self.kv, self.state = kv, state
        return GraphedStep(PlainStaticFrame(model, kv, state), PlainPrefill(model, kv), self.device, ROWS, POSITIONS)


@pytest.fixture(scope="module")
def graphed(tiny_checkpoint_folder: Path) -> Harness:
    torch.set_num_threads(1)
    return Harness(
        tiny_checkpoint_folder, torch.float64, Graphs(), max_batch_size=ROWS, max_positions=POSITIONS, max_waiting=8
    )


@pytest.fixture(scope="module")
def plain(tiny_checkpoint_folder: Path) -> Harness:
    return Harness(tiny_checkpoint_folder, torch.float64, max_batch_size=ROWS, max_positions=POSITIONS, max_waiting=8)


ASKED = [
    request("Greedy, and short.", greedy=True, max_frames=3),
    request("With the usual filters.", seed=2, max_frames=9),
    request("Of everything some.", random_segment(32, 64, 6), seed=3, top_p=0.8, repetition_penalty=1.4, max_frames=6),
    request("Ends at once, and another takes its row.", seed=4, max_frames=1),
    request("All codes are candidates.", seed=5, top_k=64, temperature=1.4, max_frames=7),
    request("No end for a while.", seed=6, min_frames=8, max_frames=8),
]


def test_buckets() -> None:
    assert row_buckets(1) == [1]
    assert row_buckets(3) == [1, 2, 3]
    assert row_buckets(32) == [1, 2, 4, 8, 16, 32]
    assert row_buckets(48) == [1, 2, 4, 8, 16, 32, 48]
    assert readable_buckets(200) == [200]
    assert readable_buckets(256) == [256]
    assert readable_buckets(2048) == [256, 512, 1024, 2048]
    assert num_graphs(32, 2048, kinds=2) == 48


def test_all_graphs_are_recorded_at_the_start(graphed: Harness) -> None:
    graphed.reset()
    assert len(graphed.make_step.device.tapes) >= num_graphs(ROWS, POSITIONS, kinds=2)
    before = len(graphed.make_step.device.tapes)
    graphed.run(*ASKED)
    assert len(graphed.make_step.device.tapes) == before


@pytest.mark.parametrize("steps_between", [0, 1, 2])
def test_frames_equal_the_plain_step(graphed: Harness, plain: Harness, steps_between: int) -> None:
    asked = random.Random(steps_between).sample(ASKED, len(ASKED))
    expected = [stream.frames for stream in plain.run_staggered(asked, steps_between)]
    assert [stream.frames for stream in graphed.run_staggered(asked, steps_between)] == expected


def test_beyond_the_first_bucket_of_positions(graphed: Harness, plain: Harness) -> None:
    """The longest of all: its last step is launched ahead of its end, one position too far."""
    context = random_segment(32, 64, 200)
    accepted = plain.run(request("Long.", context, max_frames=1))[0].accepted
    assert accepted is not None
    to_the_end = POSITIONS - accepted.prompt_tokens
    asked = request("Long.", context, seed=9, max_frames=to_the_end, min_frames=to_the_end)
    mate = request("Short.", seed=10, max_frames=60, min_frames=60)
    expected = [stream.frames for stream in plain.run(asked, mate)]
    streams = graphed.run(asked, mate)
    assert [stream.frames for stream in streams] == expected
    assert streams[0].finish is FinishReason.LENGTH
    sequence = streams[0].sequence
    assert sequence is not None
    assert sequence.num_positions == POSITIONS + 1


def test_a_step_is_launched_before_the_one_before_is_taken(graphed: Harness) -> None:
    graphed.reset()
    stream = graphed.add(request("Pipelined.", seed=1, max_frames=3))
    assert stream.sequence is not None
    launched_and_taken = []
    while graphed.engine.step():
        launched_and_taken.append((stream.sequence.num_launched, stream.sequence.num_steps))
    assert launched_and_taken == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert len(stream.frames) == 3


def test_an_abort_between_launch_and_taking_touches_nobody_else(graphed: Harness, plain: Harness) -> None:
    asked = [request(f"Number {n}.", seed=n, max_frames=6, min_frames=6) for n in range(4)]
    expected = [stream.frames for stream in plain.run(*asked[1:])]
    graphed.reset()
    streams = [graphed.add(one) for one in asked]
    graphed.engine.step()
    graphed.engine.step()
    assert streams[0].sequence is not None
    graphed.engine.abort(streams[0].sequence)
    graphed.finish()
    assert [stream.frames for stream in streams[1:]] == expected
    assert graphed.engine.stats().running == 0


def test_padded_rows_change_nothing_that_others_read(graphed: Harness) -> None:
    """Rows behind the running ones may hold a prompt that is just being read."""
    graphed.reset()
    made = graphed.make_step
    for row in range(4):  # four rows are one bucket, and three will run in it
        graphed.add(request("One of four.", seed=row, max_frames=20 - 18 * (row == 3), min_frames=2))
    for _ in range(3):
        graphed.engine.step()
    made.kv.backbone[:, :, 3, :, :POSITIONS] = 7.0
    made.state.next_input[3] = 5.0
    before = [made.state.position[3].item(), made.state.sampling.frame[3].item()]
    for _ in range(4):
        graphed.engine.step()
    assert (made.kv.backbone[:, :, 3, :, :POSITIONS] == 7.0).all()
    assert (made.state.next_input[3] == 5.0).all()
    assert [made.state.position[3].item(), made.state.sampling.frame[3].item()] == before
