"""The WordAligner deployment: when each word of an utterance is heard. On CPUs, and off the audio path."""

import asyncio

from serve_app.align.sphinx import SphinxAligner
from serve_app.deployments.replica import log_http_request_id, set_up_replica
from serve_app.messages import WordTime
from serve_app.settings import Settings


class WordAlignerDeployment:
    def __init__(self, settings: Settings) -> None:
        set_up_replica(settings)
        self._aligner = SphinxAligner()

    async def align(self, pcm: bytes, text: str) -> list[WordTime]:
        log_http_request_id()
        return await asyncio.to_thread(self._aligner.align, pcm, text)
