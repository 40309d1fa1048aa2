"""The clip encoder on its own thread, as the `ContextEncoder` that asyncio sees."""

from typing import Self

from serve_app.codec.default_voices import default_clips
from serve_app.codec.encoder import ClipEncoder
from serve_app.codec.loading import load_codec
from serve_app.messages import Codes, ContextSegment
from serve_app.owner_thread import OwnerThread
from serve_app.settings import Settings


class EncoderService:
    """Satisfies `ports.ContextEncoder` in this process."""

    def __init__(self, encoder: ClipEncoder, voices: dict[int, ContextSegment]) -> None:
        self._encoder = encoder
        self._voices = voices
        self._thread = OwnerThread("encoder")

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Open the checkpoint, load its codec, encode its voices; raises StartupError where that fails."""
        checkpoint, mimi = load_codec(settings)
        encoder = ClipEncoder(mimi, settings.codec.cache_entries)
        voices = {
            speaker: ContextSegment(text, speaker, encoder.encode(pcm), anchor=True)
            for speaker, text, pcm in default_clips(checkpoint.folder)
        }
        return cls(encoder, voices)

    async def encode(self, pcm: bytes) -> Codes:
        """See `ports.ContextEncoder`."""
        return (await self.encode_batch([pcm]))[0]

    async def encode_batch(self, clips: list[bytes]) -> list[Codes]:
        """Several clips in one pass."""
        return await self._thread.call(lambda: self._encoder.encode_batch(clips))

    async def default_voices(self) -> dict[int, ContextSegment]:
        return self._voices

    def check_health(self) -> None:
        """Raise GenerationFailed if the thread has failed."""
        self._thread.check()

    def stop(self) -> None:
        self._thread.stop()
