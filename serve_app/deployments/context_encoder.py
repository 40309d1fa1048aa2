"""Deployment: context audio to codes, several requests in one pass."""

from ray import serve

from serve_app.codec.encoder_service import EncoderService
from serve_app.deployments import replica_log
from serve_app.messages import Codes, ContextSegment
from serve_app.settings import Settings


class ContextEncoder:
    def __init__(self, settings: Settings) -> None:
        replica_log.set_up(settings.log_level)
        self._service = EncoderService.load(settings)

    async def encode(self, pcm: bytes) -> Codes:
        return await self._encode_together(pcm)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.002)
    async def _encode_together(self, clips: list[bytes]) -> list[Codes]:
        return await self._service.encode_batch(clips)

    async def default_voices(self) -> dict[int, ContextSegment]:
        return await self._service.default_voices()

    async def check_health(self) -> None:
        self._service.check_health()
