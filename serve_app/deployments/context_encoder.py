"""The ContextEncoder deployment: turns context audio into codes, several requests in one pass."""

import logging

from serve_app.codec.encoder_service import EncoderService
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.replica import log_http_request_id, set_up_replica, with_threads
from serve_app.messages import Codes, ContextSegment
from serve_app.settings import Settings

_log = logging.getLogger(__name__)


class ContextEncoderDeployment:
    def __init__(self, settings: Settings) -> None:
        set_up_replica(settings)
        self._service = EncoderService.load(with_threads(settings, "codec"), RayMeter())

    async def encode(self, pcm: bytes, owner: str) -> Codes:
        log_http_request_id()
        codes = await self._service.encode(pcm, owner)
        _log.debug("encoded a clip of %d frames", codes.num_frames)
        return codes

    async def default_voices(self) -> dict[int, ContextSegment]:
        return await self._service.default_voices()

    async def codec(self) -> str:
        return await self._service.codec()

    async def check_health(self) -> None:
        self._service.check_health()
