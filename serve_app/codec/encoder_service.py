"""Runs the clip encoder on its own thread, and offers it to asyncio as a `ports.ContextEncoder`."""

import math
import time
from collections.abc import Sequence
from typing import Protocol, Self

from serve_app import metrics
from serve_app.messages import Codes, ContextSegment
from serve_app.metrics import NO_METER, Meter
from serve_app.model.out_of_memory import memory_for_start
from serve_app.owner_thread import OwnerThread
from serve_app.settings import Settings

MAX_CLIPS_PER_PASS = 8


class Clips(Protocol):
    """Encodes whole clips, as `encoder.ClipEncoder`."""

    num_hits: int

    def encode_batch(self, clips: Sequence[bytes]) -> list[Codes]: ...


class EncoderService:
    """Satisfies `ports.ContextEncoder` in this process."""

    def __init__(
        self,
        encoder: Clips,
        voices: dict[int, ContextSegment],
        codec: str = "",
        meter: Meter = NO_METER,
        stuck_seconds: float = math.inf,
    ) -> None:
        self._encoder = encoder
        self._voices = voices
        self._codec = codec
        self._meter = meter
        self._thread = OwnerThread("encoder", stuck_seconds=stuck_seconds)

    @classmethod
    def load(cls, settings: Settings, meter: Meter = NO_METER) -> Self:
        """Load the codec and the voices that the settings name. Raises StartupError where that fails."""
        with memory_for_start("the context encoder", "codec.cache_entries, or raise codec.memory_fraction"):
            return cls(*_parts(settings), meter=meter, stuck_seconds=MAX_CLIPS_PER_PASS * settings.codec.stuck_seconds)

    async def encode(self, pcm: bytes) -> Codes:
        """See `ports.ContextEncoder`."""
        return (await self.encode_batch([pcm]))[0]

    async def encode_batch(self, clips: list[bytes]) -> list[Codes]:
        """Encode several clips in one pass."""
        return await self._thread.call(lambda: self._encode_batch(clips))

    async def default_voices(self) -> dict[int, ContextSegment]:
        return self._voices

    async def codec(self) -> str:
        return self._codec

    def _encode_batch(self, clips: list[bytes]) -> list[Codes]:
        began_at, hits_before = time.perf_counter(), self._encoder.num_hits
        codes = self._encoder.encode_batch(clips)
        self._meter.observe(metrics.ENCODER_SECONDS, time.perf_counter() - began_at)
        self._meter.count(metrics.ENCODER_CLIPS, len(clips))
        if hits := self._encoder.num_hits - hits_before:
            self._meter.count(metrics.ENCODER_CACHE_HITS, hits)
        return codes

    def check_health(self) -> None:
        """Raises ReplicaLost if the thread is dead, or if a pass does not end."""
        self._thread.check()

    def stop(self) -> None:
        self._thread.stop()


def _parts(settings: Settings) -> tuple[Clips, dict[int, ContextSegment], str]:
    # Imported here, so that a replica with a stand-in starts without torch, in a fraction of the time.
    if settings.stand_in is not None:
        from serve_app.codec.stand_in import StandInClips

        return StandInClips(settings.stand_in), {}, f"stand-in-{settings.stand_in.num_codebooks}"
    from serve_app.codec.default_voices import default_clips
    from serve_app.codec.encoder import ClipEncoder
    from serve_app.codec.fingerprint import fingerprint
    from serve_app.codec.loading import load_codec

    checkpoint, mimi = load_codec(settings)
    encoder = ClipEncoder(mimi, settings.codec.cache_entries)
    voices = {
        speaker: ContextSegment(text, speaker, encoder.encode(pcm), anchor=True)
        for speaker, text, pcm in default_clips(checkpoint.folder)
    }
    return encoder, voices, fingerprint(mimi)
