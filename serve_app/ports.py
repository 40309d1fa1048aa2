"""The Protocols between the parts of the server. Deployment handles, services and test fakes satisfy them."""

from collections.abc import AsyncGenerator
from typing import Protocol

from serve_app.messages import (
    Accepted,
    AdapterRef,
    AudioChunk,
    Codes,
    ContextSegment,
    GenerationRequest,
    ModelInfo,
    TokenFrames,
    WordTime,
)


class ContextEncoder(Protocol):
    """Encodes context audio to codes."""

    async def encode(self, pcm: bytes, owner: str = "") -> Codes:
        """Encode signed 16 bit mono PCM at 24 kHz, padded to whole frames. `owner`: the key that sends it."""
        ...

    async def default_voices(self) -> dict[int, ContextSegment]:
        """The checkpoint's own voices by speaker. Empty where it has none."""
        ...

    async def codec(self) -> str:
        """Names the weights that codes come from. Codes of another codec are other sounds."""
        ...


class WordAligner(Protocol):
    """Finds the words of a known text in its speech."""

    async def align(self, pcm: bytes, text: str) -> list[WordTime]:
        """Each word of `text` in order, in seconds from the beginning of the utterance `pcm` (16 bit, 24 kHz)."""
        ...


class TokenGenerator(Protocol):
    """Generates frames of codes."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        """Yield `Accepted`, then frames. The last message has `finish` set. Closing the generator frees the slot."""
        ...

    async def check_adapter(self, ref: AdapterRef) -> None:
        """Load an adapter on one replica. Raises CheckpointError, in one line, where it cannot be served."""
        ...

    async def info(self) -> ModelInfo: ...


class AudioDecoder(Protocol):
    """Generates speech: it reads from a token generator and decodes the frames."""

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield `Accepted`, then audio. The last message has `finish` set. Closing the generator frees its slots."""
        ...

    async def decode(self, codes: Codes) -> bytes:
        """The sound of one whole utterance, as `stream` made it: signed 16 bit mono PCM at 24 kHz."""
        ...

    async def check_adapter(self, ref: AdapterRef) -> None:
        """Load an adapter on one replica. Raises CheckpointError, in one line, where it cannot be served."""
        ...

    async def info(self) -> ModelInfo: ...
