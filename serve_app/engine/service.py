"""Runs the engine on its own thread, and offers it to asyncio as a `ports.TokenGenerator`."""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from serve_app.engine.engine import Engine
from serve_app.engine.prompt import ModelLimits, build_prompt
from serve_app.engine.runner import EngineParts
from serve_app.engine.sequence import Sequence
from serve_app.engine.stats import EngineStats
from serve_app.errors import CheckpointError, GenerationFailed, InvalidRequest
from serve_app.messages import Accepted, AdapterRef, GenerationRequest, ModelInfo, SamplingParams, TokenFrames
from serve_app.model.out_of_memory import memory_for_start
from serve_app.owner_thread import Inbox, OwnerThread
from serve_app.settings import EngineSettings, Settings

if TYPE_CHECKING:
    from serve_app.model.adapters.low_rank import LoadedAdapter

_log = logging.getLogger(__name__)

_WARM_UP_FRAMES = 8
"""Enough steps for `StepTimes` to trust their measured time."""
_SWITCH_INTERVAL_SECONDS = 0.0005
"""How long asyncio's thread may keep the interpreter's lock while the engine's thread waits for it.

Python's default of 5 ms is as long as a whole decode step of a GPU.
"""
_MEMORY = (
    "the generator",
    "engine.max_batch_size, engine.max_positions or engine.prefix_cache_mb, or raise engine.memory_fraction",
)


class TokenService:
    """Satisfies `ports.TokenGenerator` in this process."""

    def __init__(
        self, parts: EngineParts, settings: EngineSettings, replica: str = "local", shares_prefixes: bool = False
    ) -> None:
        """shares_prefixes: whether a key's context may be found in the prefix cache although another one sent it."""
        self._tokenizer = parts.tokenizer
        self._adapters = parts.adapters
        self._info = info = parts.info
        self._limits = ModelLimits(info.num_codebooks, info.codebook_size, info.max_positions)
        self._shares_prefixes = shares_prefixes
        self._engine = Engine(parts.runner, settings, replica)
        engine = self._engine
        self._thread = OwnerThread(
            "engine", engine.step, engine.fail_all, engine.rest_seconds, stuck_seconds=settings.stuck_seconds
        )

    @classmethod
    def load(cls, settings: Settings, replica: str = "local") -> Self:
        """Load the model that the settings name. Raises StartupError where that fails."""
        sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
        with memory_for_start(*_MEMORY):
            return cls(_parts(settings), settings.engine, replica, settings.keys.share_caches)

    async def warm_up(self) -> None:
        """Generate a little with all slots in use, then with one, so that the first requests meet a warm engine.

        Step times of other batch sizes are estimated between these two. The largest batch comes first, because
        admission tries sizes that were never run one row at a time.
        """
        with memory_for_start(*_MEMORY):
            try:
                for num_sequences in (self._info.max_batch_size, 1):
                    await self._speak_at_once(num_sequences)
            except GenerationFailed:
                self._thread.check()  # Raises with the cause.
                raise

    async def _speak_at_once(self, num_sequences: int) -> None:
        sampling = SamplingParams(min_frames=_WARM_UP_FRAMES, max_frames=_WARM_UP_FRAMES)
        request = GenerationRequest("warm-up", "Hello.", 0, sampling=sampling, priority=-1)
        prompt = build_prompt(request, self._tokenizer, self._limits)
        inboxes: list[Inbox[Accepted | TokenFrames]] = [Inbox() for _ in range(num_sequences)]
        sequences = [Sequence(request, prompt, inbox.put, time.monotonic()) for inbox in inboxes]
        await self._thread.call(lambda: [self._engine.add(sequence) for sequence in sequences])
        for inbox in inboxes:
            while not _is_last(await inbox.get()):
                pass

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        """See `ports.TokenGenerator`. Raises InvalidRequest, ContextTooLong, Overloaded or GenerationFailed."""
        # Tokenizing takes long enough to stall the other streams of this loop.
        read_as = replace(request, owner="") if self._shares_prefixes else request
        prompt = await asyncio.to_thread(build_prompt, read_as, self._tokenizer, self._limits)
        adapter = None if request.adapter is None else await asyncio.to_thread(self._load, request.adapter)
        inbox: Inbox[Accepted | TokenFrames] = Inbox()
        sequence = Sequence(request, prompt, inbox.put, time.monotonic() - request.waited_seconds, adapter)
        try:
            await self._thread.call(lambda: self._engine.add(sequence))
            while True:
                message = await inbox.get()
                yield message
                if _is_last(message):
                    return
        finally:
            self._thread.post(lambda: self._engine.abort(sequence))

    def _load(self, ref: AdapterRef) -> "LoadedAdapter":
        if self._adapters is None:
            raise InvalidRequest("adapter", f"{ref.name}: this server cannot use adapters: leave it out")
        try:
            return self._adapters.load(ref)
        except CheckpointError as error:
            # The reason may name folders of the server.
            _log.warning("adapter %s", error)
            raise InvalidRequest("adapter", f"{ref.name} cannot be loaded; the server's log says why") from error

    async def check_adapter(self, ref: AdapterRef) -> None:
        """Load an adapter for its operator. Raises CheckpointError, in one line, where it cannot be served."""
        if self._adapters is None:
            raise CheckpointError(f"{ref.name}: this server cannot use adapters")
        await asyncio.to_thread(self._adapters.load, ref)

    @property
    def held_adapters(self) -> tuple[str, ...]:
        """Names of the adapters that need not be loaded."""
        return self._adapters.held if self._adapters else ()

    async def info(self) -> ModelInfo:
        return self._info

    async def stats(self) -> EngineStats:
        return await self._thread.call(self._engine.stats)

    async def reconfigure(self, settings: EngineSettings) -> None:
        """See `Engine.reconfigure`."""
        await self._thread.call(lambda: self._engine.reconfigure(settings))

    def check_health(self) -> None:
        """Raises ReplicaLost if the engine has failed, its thread is dead, or a step does not end."""
        self._thread.check()

    def stop(self) -> None:
        self._thread.stop()


def _is_last(message: Accepted | TokenFrames) -> bool:
    return isinstance(message, TokenFrames) and message.finish is not None


def _parts(settings: Settings) -> EngineParts:
    # Imported here, so that a replica with a stand-in starts without torch, in a fraction of the time.
    if settings.stand_in is not None:
        from serve_app.engine.stand_in import stand_in_parts

        return stand_in_parts(settings)
    from serve_app.engine.loading import load_parts

    return load_parts(settings)
