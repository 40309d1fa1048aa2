"""An engine whose time is made up: the stand-in takes it, and nothing else does."""

from dataclasses import replace
from typing import Any

from serve_app.engine.engine import Engine
from serve_app.engine.prompt import ModelLimits, build_prompt
from serve_app.engine.sequence import Sequence
from serve_app.engine.stand_in import CODEBOOK_SIZE, StandInRunner, StandInTokenizer
from serve_app.messages import GenerationRequest
from serve_app.settings import EngineSettings, StandInSettings
from tests.support.engine_harness import Stream, request


class Timed:
    def __init__(self, step_ms_by_batch: dict[int, float] | None = None, **settings: Any) -> None:
        self.now = 0.0
        self.rested_seconds = 0.0
        self.runner = StandInRunner(
            StandInSettings(step_ms_by_batch=step_ms_by_batch or {}), lambda: self.now, self._sleep
        )
        self.kept_waiting = 0.0
        clock, kept_waiting = (lambda: self.now), (lambda: self.kept_waiting)
        self.engine = Engine(self.runner, EngineSettings(**settings), "test", clock, kept_waiting)

    def add(self, asked: GenerationRequest) -> Stream:
        stream = Stream()
        prompt = build_prompt(asked, StandInTokenizer(), ModelLimits(32, CODEBOOK_SIZE, 2048))
        stream.sequence = Sequence(asked, prompt, stream.take, self.now)
        self.engine.add(stream.sequence)
        return stream

    def run_for(self, seconds: float = float("inf")) -> None:
        """Until so much time has passed, or nothing is left to do."""
        until = self.now + seconds
        while self.now < until and self.engine.step():
            rest_seconds = self.engine.rest_seconds()
            self.rested_seconds += rest_seconds
            self.now += rest_seconds

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


def spoken(num_frames: int, name: str = "r", priority: int = 0, **fields: Any) -> GenerationRequest:
    return replace(
        request("Hello there.", name=name, max_frames=num_frames, min_frames=num_frames), priority=priority, **fields
    )
