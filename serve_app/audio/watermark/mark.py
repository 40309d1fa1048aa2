"""What a watermark is, and which one the settings name."""

import importlib
from dataclasses import dataclass
from typing import Protocol

from serve_app.errors import StartupError
from serve_app.settings import WatermarkSettings

SILENT_CIPHER = "silentcipher"
_SILENT_CIPHER_FACTORY = "serve_app.audio.watermark.silent_cipher:open_watermark"


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a recording carries this server's mark."""

    is_marked: bool
    confidence: float
    """0 to 1."""


class Watermark(Protocol):
    """Marks and finds. Both take signed 16 bit little-endian mono PCM at 24 kHz, and may be called in any thread."""

    name: str
    block_seconds: float
    """A stream is marked in blocks of this length, each by itself. Its listener waits for the first."""

    def mark(self, pcm: bytes) -> bytes:
        """As many samples, marked."""
        ...

    def find(self, pcm: bytes) -> Finding: ...


def open_watermark(settings: WatermarkSettings) -> Watermark | None:
    """The watermark that the settings name, or None. Raises StartupError where it cannot be used."""
    if settings.use is None:
        return None
    path = _SILENT_CIPHER_FACTORY if settings.use == SILENT_CIPHER else settings.use
    module, _, factory = path.partition(":")
    try:
        return getattr(importlib.import_module(module), factory)(settings)
    except (ImportError, AttributeError) as error:
        raise StartupError(
            f"watermark.use is {settings.use}, which cannot be loaded ({error}): name silentcipher, or MODULE:FACTORY"
        ) from error
