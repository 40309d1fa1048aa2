"""Deployment: codes to sound; each stream pulls its token generator."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ray.serve.handle import DeploymentHandle

from serve_app.codec.decoder_service import DecoderService
from serve_app.deployments import replica_log
from serve_app.deployments.handles import GeneratorHandle
from serve_app.messages import Accepted, AudioChunk, GenerationRequest, ModelInfo
from serve_app.settings import Settings
from serve_app.speech.failover import ResumingGenerator


class AudioDecoder:
    async def __init__(self, generator: DeploymentHandle, settings: Settings) -> None:
        replica_log.set_up(settings.log_level)
        self._service = DecoderService.load(settings, ResumingGenerator(GeneratorHandle(generator), settings.failover))
        await self._service.warm_up()

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        async with aclosing(self._service.stream(request)) as messages:
            async for message in messages:
                yield message

    async def info(self) -> ModelInfo:
        return await self._service.info()

    async def num_streams(self) -> int:
        return await self._service.num_streams()

    async def check_health(self) -> None:
        self._service.check_health()
