"""An answer while it is being spoken."""

import logging
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Self

from serve_app.messages import Accepted, AudioChunk, FinishReason
from serve_app.speech.outcomes import Outcome, RecentOutcomes

_log = logging.getLogger(__name__)

Speech = AsyncGenerator[Accepted | AudioChunk, None]


class LiveAnswer:
    """To be entered with `async with`: leaving it, however that comes, frees every slot and settles the outcome."""

    def __init__(self, accepted: Accepted, speech: Speech, outcomes: RecentOutcomes, owner: str) -> None:
        self.accepted = accepted
        self.outcome = Outcome(accepted.request_id, accepted.seed)
        self._speech = speech
        self._outcomes = outcomes
        self._owner = owner
        outcomes.record(owner, self.outcome)

    @classmethod
    async def open(cls, speech: Speech, outcomes: RecentOutcomes, owner: str) -> Self:
        """Wait until the pipeline admits the request; a refusal is raised here, before there is an outcome.

        `owner`: the id of the caller's key."""
        accepted = await anext(speech)
        assert isinstance(accepted, Accepted), "a stream opens with Accepted"
        return cls(accepted, speech, outcomes, owner)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._speech.aclose()
        finally:
            if self.outcome.finish_reason is None:
                self._note(finish_reason=FinishReason.CANCELLED)

    async def chunks(self) -> AsyncGenerator[AudioChunk, None]:
        try:
            async for chunk in self._speech:
                assert isinstance(chunk, AudioChunk), "Accepted comes once"
                self._note(self.outcome.num_frames + chunk.codes.num_frames, chunk.finish)
                yield chunk
        except Exception as error:
            self._note(finish_reason=FinishReason.ERROR)
            name, frames = type(error).__name__, self.outcome.num_frames
            _log.error("request %s broke off with %s after %d frames", self.accepted.request_id, name, frames)
            raise

    def _note(self, num_frames: int | None = None, finish_reason: FinishReason | None = None) -> None:
        frames = self.outcome.num_frames if num_frames is None else num_frames
        self.outcome = replace(self.outcome, num_frames=frames, finish_reason=finish_reason)
        self._outcomes.record(self._owner, self.outcome)
