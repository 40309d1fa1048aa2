"""The engine on its own thread, as the `TokenGenerator` that asyncio sees."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from typing import Self

import torch

from serve_app.engine.engine import Engine, EngineStats
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prompt import ModelLimits, Tokenizer, build_prompt
from serve_app.engine.sequence import Sequence
from serve_app.messages import Accepted, GenerationRequest, ModelInfo, SamplingParams, TokenFrames
from serve_app.model.checkpoint import load_model, open_checkpoint
from serve_app.model.csm import Csm
from serve_app.model.device import pick_device, pick_dtype, use_threads
from serve_app.model.tokenizer import TextTokenizer
from serve_app.owner_thread import Inbox, OwnerThread
from serve_app.settings import EngineSettings, Settings

_log = logging.getLogger(__name__)


class TokenService:
    """Satisfies `ports.TokenGenerator` in this process."""

    def __init__(
        self, model: Csm, tokenizer: Tokenizer, info: ModelInfo, settings: EngineSettings, replica: str = "local"
    ) -> None:
        self._tokenizer = tokenizer
        self._info = info
        self._limits = ModelLimits(info.num_codebooks, info.codebook_size, info.max_positions)
        runner = ModelRunner(model, settings.max_batch_size, info.max_positions)
        self._engine = Engine(runner, settings, replica)
        self._thread = OwnerThread("engine", self._engine.step, self._engine.fail_all)

    @classmethod
    def load(cls, settings: Settings, replica: str = "local") -> Self:
        """Open the checkpoint and load its model; raises StartupError where it cannot be."""
        device = pick_device(settings.device)
        dtype = pick_dtype(settings.dtype, device)
        use_threads(settings.engine.threads)
        checkpoint = open_checkpoint(settings.model, settings.revision, settings.data_dir)
        model = load_model(checkpoint, device, dtype)
        info = ModelInfo(
            model=checkpoint.name,
            weights="random" if checkpoint.random_weights else "trained",
            num_codebooks=checkpoint.shape.num_codebooks,
            codebook_size=checkpoint.shape.codebook_size,
            max_positions=min(settings.engine.max_positions, checkpoint.shape.backbone.max_positions),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            dtype=str(dtype).removeprefix("torch."),
            max_batch_size=settings.engine.max_batch_size,
        )
        if checkpoint.random_weights:
            _log.warning("%s has random weights: what it says is noise", checkpoint.name)
        return cls(model, TextTokenizer(checkpoint), info, settings.engine, replica)

    async def warm_up(self) -> None:
        """Speak a few frames, so that the first request finds everything in place."""
        request = GenerationRequest("warm-up", "Hello.", 0, sampling=SamplingParams(max_frames=3))
        async for _ in self.generate(request):
            pass

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        """See `ports.TokenGenerator`. Raises InvalidRequest, ContextTooLong, Overloaded or GenerationFailed."""
        # Tokenizing is long enough to stall the streams of this loop.
        prompt = await asyncio.to_thread(build_prompt, request, self._tokenizer, self._limits)
        inbox: Inbox[Accepted | TokenFrames] = Inbox()
        sequence = Sequence(request, prompt, inbox.put, arrived_at=time.monotonic())
        try:
            await self._thread.call(lambda: self._engine.add(sequence))
            while True:
                message = await inbox.get()
                yield message
                if isinstance(message, TokenFrames) and message.finish:
                    return
        finally:
            self._thread.post(lambda: self._engine.abort(sequence))

    async def info(self) -> ModelInfo:
        return self._info

    async def stats(self) -> EngineStats:
        return await self._thread.call(self._engine.stats)

    def check_health(self) -> None:
        """Raise GenerationFailed if the engine has failed."""
        self._thread.check()

    def stop(self) -> None:
        self._thread.stop()
