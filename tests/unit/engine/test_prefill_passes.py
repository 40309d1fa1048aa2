"""Which prompts are read together, and that running sequences get their frame between two passes."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from serve_app.engine.engine import Engine
from serve_app.engine.prefill import PrefillChunk
from serve_app.engine.prompt import ModelLimits, build_prompt
from serve_app.engine.runner import DrawnFrames, PendingFrames
from serve_app.engine.scheduler import Move, Swap
from serve_app.engine.sequence import Sequence
from serve_app.engine.stand_in import StandInTokenizer
from serve_app.messages import GenerationRequest
from serve_app.settings import EngineSettings
from tests.support.engine_harness import Harness, Stream, random_segment, request


@dataclass
class Log:
    """A runner that writes down what it is asked to do."""

    lookahead: int = 0
    said: list[object] = field(default_factory=list)

    def restore(self, row: int, sequence: Sequence) -> int:
        return sequence.num_prefilled

    def prefill(self, chunks: list[PrefillChunk]) -> None:
        self.said.append([(chunk.sequence.request.request_id, chunk.num_tokens) for chunk in chunks])

    def launch(self, sequences: list[Sequence]) -> PendingFrames:
        self.said.append("frame for " + ",".join(s.request.request_id for s in sequences))
        return DrawnFrames(np.ones((len(sequences), 4), dtype=np.int64))

    def keep_spoken(self, row: int, sequence: Sequence) -> None:
        pass

    def move(self, move: Move, num_positions: int) -> None:
        pass

    def swap(self, swap: Swap, num_positions: int) -> None:
        pass


def engine(log: Log) -> Engine:
    settings = EngineSettings(max_batch_size=8, prefill_chunk_tokens=50, repeated_frames_limit=1000)
    return Engine(log, settings, "test", clock=lambda: 0.0)


def add(engine: Engine, name: str, num_tokens: int) -> None:
    """With a prompt of `num_tokens` and its last position."""
    asked = request("x" * 4 * (num_tokens - 1), name=name, max_frames=100)
    prompt = build_prompt(asked, StandInTokenizer(), ModelLimits(4, 64, 2048))
    assert prompt.num_positions == num_tokens + 1
    engine.add(Sequence(asked, prompt, lambda message: None, 0.0))


def test_prompts_share_a_pass_up_to_its_budget_and_the_last_goes_on_in_the_next() -> None:
    log = Log()
    running = engine(log)
    for name, num_tokens in (("a", 20), ("b", 15), ("c", 40), ("d", 5)):
        add(running, name, num_tokens)
    running.step()
    running.step()
    assert log.said == [
        [("a", 20), ("b", 15), ("c", 15)],
        "frame for a,b",
        [("c", 25), ("d", 5)],
        "frame for a,b,c,d",
    ]


def test_a_long_prompt_never_holds_the_others_for_more_than_its_budget() -> None:
    log = Log()
    running = engine(log)
    add(running, "a", 10)
    running.step()
    add(running, "long", 120)
    log.said.clear()
    for _ in range(3):
        running.step()
    assert log.said == [
        [("long", 50)],
        "frame for a",
        [("long", 50)],
        "frame for a",
        [("long", 20)],
        "frame for a,long",
    ]


@pytest.fixture(scope="module")
def exact(tiny_checkpoint_folder: Path) -> Harness:
    torch.set_num_threads(1)
    return Harness(tiny_checkpoint_folder, torch.float64, max_batch_size=8)


def computed_alone(exact: Harness, asked: list[GenerationRequest]) -> list[list[list[int]]]:
    frames = []
    for one in asked:
        exact.reset()
        frames.append(exact.run(one)[0].frames)
    exact.reset()
    return frames


def test_prompts_that_are_read_together_are_spoken_as_if_alone(exact: Harness) -> None:
    asked = [
        request(f"Number {n} of several.", *[random_segment(32, 64, 9, n)] * (n % 3), seed=n, max_frames=6)
        for n in range(6)
    ]
    alone = computed_alone(exact, asked)
    assert [stream.frames for stream in exact.run(*asked)] == alone


def test_of_several_with_one_new_voice_one_reads_it_and_the_others_take_it_from_there(exact: Harness) -> None:
    voice = random_segment(32, 64, 30)
    asked = [request(f"Sentence {n} of the same voice.", voice, seed=n, max_frames=4) for n in range(4)]
    alone = computed_alone(exact, asked)
    streams: list[Stream] = exact.run(*asked)
    assert [stream.frames for stream in streams] == alone
    restored = [stream.sequence.num_restored for stream in streams if stream.sequence]
    assert restored[0] == 0
    assert all(count > 30 for count in restored[1:])
