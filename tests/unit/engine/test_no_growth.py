"""Ten thousand requests leave nothing behind, though three of ten are dropped somewhere on their way."""

import gc
import logging
import random
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import torch

from serve_app.engine.sequence import Sequence
from serve_app.messages import FinishReason
from tests.support.engine_harness import Harness, Stream, random_segment, request

REQUESTS = 10_000
WARM_UP = 2_000
"""By then every buffer has had its largest size, and the prefix cache has been full for long."""
SLOTS = 32
AT_ONCE = 48
"""So some always wait."""
MAX_GROWTH_BYTES = 6 * 2**20
"""The allocator wanders by up to 3 MB. A kilobyte kept of each request would be 8 MB."""
MAX_NEW_OBJECTS = 400
"""One object kept of each request would be 8,000."""


@dataclass(eq=False)
class Visitor:
    """A request's stream, and in how many steps it is dropped, if it is."""

    stream: Stream
    leaves_in: int | None


@dataclass(frozen=True)
class Footprint:
    """What the process holds once all garbage is gone."""

    resident_bytes: int
    num_objects: int

    @classmethod
    def now(cls) -> "Footprint":
        gc.collect()
        return cls(psutil.Process().memory_info().rss, len(gc.get_objects()))


class Crowd:
    """Keeps an engine busy with short requests, of which it forgets those that are over."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._random = random.Random(0)
        self._present: list[Visitor] = []
        self.num_started = 0
        self.finishes = dict.fromkeys(FinishReason, 0)

    def run_until(self, num_started: int) -> None:
        while self.num_started < num_started:
            while len(self._present) < AT_ONCE:
                self._enter()
            self._step()

    def run_dry(self) -> None:
        while self._present:
            self._step()
        self._harness.finish()

    def _enter(self) -> None:
        """Every fifth has a context of its own, so that the prefix cache always has something to forget."""
        number, draw = self.num_started, self._random
        context = [random_segment(32, 64, 4, number)] if number % 5 == 0 else []
        leaves_in = draw.randrange(6) if draw.random() < 0.3 else None
        # Who is going to be dropped would speak on and on otherwise.
        frames = draw.choice((1, 2)) if leaves_in is None else 100
        asked = request("Hi.", *context, name=str(number), seed=number, max_frames=frames, min_frames=frames)
        stream = self._harness.add(replace(asked, becomes_context=number % 7 == 0))
        self._present.append(Visitor(stream, leaves_in))
        self.num_started += 1

    def _step(self) -> None:
        for visitor in self._present:
            if visitor.leaves_in == 0:
                assert visitor.stream.sequence is not None
                self._harness.engine.abort(visitor.stream.sequence)
            elif visitor.leaves_in is not None:
                visitor.leaves_in -= 1
        self._harness.engine.step()
        for visitor in self._present:
            assert visitor.stream.sequence is not None and visitor.stream.error is None
            if visitor.stream.sequence.finish is not None:
                self.finishes[visitor.stream.sequence.finish] += 1
        self._present = [v for v in self._present if v.stream.sequence and v.stream.sequence.finish is None]


@pytest.mark.slow
def test_memory_is_flat_over_ten_thousand_requests(
    tiny_checkpoint_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "serve_app")  # or pytest itself would keep a record of every request
    torch.set_num_threads(1)
    harness = Harness(tiny_checkpoint_folder, max_batch_size=SLOTS, max_waiting=64, prefix_cache_mb=1)
    for size in range(1, SLOTS + 1):  # a step keeps something for each size that it meets
        harness.run(*[request("Hi.", max_frames=1)] * size)
    crowd = Crowd(harness)
    crowd.run_until(WARM_UP)
    crowd.run_dry()
    warm = Footprint.now()
    crowd.run_until(REQUESTS)
    crowd.run_dry()
    end = Footprint.now()

    assert 0.25 * crowd.num_started < crowd.finishes[FinishReason.CANCELLED] < 0.35 * crowd.num_started
    assert sum(crowd.finishes.values()) == crowd.num_started >= REQUESTS
    assert (harness.engine.stats().running, harness.engine.stats().waiting) == (0, 0)
    assert 0.9 * 2**20 < harness.prefixes.on_device.num_bytes <= 2**20
    assert not [kept for kept in gc.get_objects() if type(kept) is Sequence]
    assert end.num_objects - warm.num_objects < MAX_NEW_OBJECTS
    assert end.resident_bytes - warm.resident_bytes < MAX_GROWTH_BYTES
