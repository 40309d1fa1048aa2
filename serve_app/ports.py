"""The Protocols at the seams. Deployment handles, in-process parts and test fakes all satisfy them."""

from collections.abc import AsyncGenerator
from typing import Protocol

from serve_app.messages import Accepted, AudioChunk, Codes, ContextSegment, GenerationRequest, ModelInfo, TokenFrames


class ContextEncoder(Protocol):
    """Turns context audio into codes."""

    async def encode(self, pcm: bytes) -> Codes:
        """Encode signed 16 bit mono PCM at 24 kHz, padded to whole frames."""
        ...

    async def default_voices(self) -> dict[int, ContextSegment]:
        """The checkpoint's own prompts by speaker; empty where it brings none."""
        ...


class TokenGenerator(Protocol):
    """Generates frames of codes."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        """Yield `Accepted`, then frames; the last message carries `finish`. Closing it frees the slot."""
        ...

    async def info(self) -> ModelInfo: ...


class AudioDecoder(Protocol):
    """Generates speech: pulls a token generator and decodes its frames."""

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield `Accepted`, then audio; the last message carries `finish`. Closing it frees the slots behind it."""
        ...

    async def info(self) -> ModelInfo: ...
