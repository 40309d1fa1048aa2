"""Runs the clip encoder on its own thread, and offers it to asyncio as a `ports.ContextEncoder`."""

import math
import os
import time
from collections.abc import Sequence
from typing import Protocol, Self

from serve_app import metrics
from serve_app.codec.encoding_line import MAX_CLIPS_PER_PASS, EncodingLine, WaitingClip
from serve_app.codec.preparation import prepared_codec
from serve_app.messages import Codes, ContextSegment
from serve_app.metrics import NO_METER, Meter
from serve_app.model.out_of_memory import memory_for_start
from serve_app.owner_thread import OwnerThread
from serve_app.settings import Settings

_SMALL_BYTES = 32 * 2**30
"""Of memory. Below it, `auto` leaves torch out of the encoder until a recording comes, which saves 360 MB."""


class Clips(Protocol):
    """Encodes whole clips, as `encoder.ClipEncoder`."""

    @property
    def num_hits(self) -> int: ...

    def encode_batch(self, clips: Sequence[bytes], owners: Sequence[str] = ()) -> list[Codes]: ...


class EncoderService:
    """Satisfies `ports.ContextEncoder` in this process."""

    def __init__(
        self,
        encoder: Clips,
        voices: dict[int, ContextSegment],
        codec: str = "",
        meter: Meter = NO_METER,
        stuck_seconds: float = math.inf,
        shares_cache: bool = False,
    ) -> None:
        """shares_cache: whether an owner's clip may be found in the cache although another one sent it."""
        self._encoder = encoder
        self._voices = voices
        self._codec = codec
        self._meter = meter
        self._shares_cache = shares_cache
        self._thread = OwnerThread("encoder", stuck_seconds=stuck_seconds)
        self._line = EncodingLine(self._encode_pass)

    @classmethod
    def load(cls, settings: Settings, meter: Meter = NO_METER) -> Self:
        """Load the codec and the voices that the settings name. Raises StartupError where that fails."""
        with memory_for_start("the context encoder", "codec.cache_entries, or raise codec.memory_fraction"):
            stuck_seconds = MAX_CLIPS_PER_PASS * settings.codec.stuck_seconds
            return cls(*_parts(settings), meter, stuck_seconds, settings.keys.share_caches)

    async def encode(self, pcm: bytes, owner: str = "") -> Codes:
        """See `ports.ContextEncoder`. Raises Overloaded where too many clips wait."""
        return await self._line.encoded(pcm, owner)

    async def default_voices(self) -> dict[int, ContextSegment]:
        return self._voices

    async def codec(self) -> str:
        return self._codec

    async def _encode_pass(self, clips: Sequence[WaitingClip]) -> list[Codes]:
        return await self._thread.call(lambda: self._encode_batch(clips))

    def _encode_batch(self, clips: Sequence[WaitingClip]) -> list[Codes]:
        began_at, hits_before = time.perf_counter(), self._encoder.num_hits
        owners = () if self._shares_cache else [clip.owner for clip in clips]
        codes = self._encoder.encode_batch([clip.pcm for clip in clips], owners)
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
    if _loads_late(settings) and (ready := prepared_codec(settings)) is not None:
        return LateClips(settings), ready.voices, ready.fingerprint
    from serve_app.codec.default_voices import encoded_voices
    from serve_app.codec.encoder import ClipEncoder
    from serve_app.codec.fingerprint import fingerprint
    from serve_app.codec.loading import load_codec

    checkpoint, mimi = load_codec(settings)
    encoder = ClipEncoder(mimi, settings.codec.cache_entries)
    return encoder, encoded_voices(checkpoint.folder, encoder), fingerprint(mimi)


def _loads_late(settings: Settings) -> bool:
    """Whether the encoder waits for its first clip, with `codec.load_encoder` at `auto` on a small machine."""
    if settings.codec.load_encoder != "auto":
        return settings.codec.load_encoder == "first_clip"
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") < _SMALL_BYTES


class LateClips:
    """A `ClipEncoder` that is loaded for its first clip. Not thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._encoder: Clips | None = None

    @property
    def num_hits(self) -> int:
        return 0 if self._encoder is None else self._encoder.num_hits

    def encode_batch(self, clips: Sequence[bytes], owners: Sequence[str] = ()) -> list[Codes]:
        if self._encoder is None:
            from serve_app.codec.encoder import ClipEncoder
            from serve_app.codec.loading import load_codec

            _, mimi = load_codec(self._settings)
            self._encoder = ClipEncoder(mimi, self._settings.codec.cache_entries)
        return self._encoder.encode_batch(clips, owners)
