"""A transcription service with OpenAI's API, which tells what words it hears."""

import io
import wave

import httpx

from serve_app.errors import DeliveryFailed
from serve_app.messages import SAMPLE_RATE_HZ
from serve_app.settings import VoiceSettings

_TIMEOUT_SECONDS = 60.0


def open_ear(settings: VoiceSettings) -> "TranscriptionEar | None":
    """The one that the settings name."""
    return TranscriptionEar(settings.ear_url, settings.ear_model) if settings.ear_url else None


class TranscriptionEar:
    """Asks `POST URL/audio/transcriptions`. The operator named the URL, so it may be a private one."""

    def __init__(self, url: str, model: str) -> None:
        self._url = f"{url.rstrip('/')}/audio/transcriptions"
        self._model = model

    async def hears(self, pcm: bytes) -> str:
        """The words in signed 16 bit mono PCM at 24 kHz. Raises DeliveryFailed."""
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as client:
                answer = await client.post(
                    self._url, data={"model": self._model}, files={"file": ("speech.wav", _wav(pcm), "audio/wav")}
                )
                answer.raise_for_status()
                return str(answer.json()["text"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise DeliveryFailed(f"the service at voices.ear_url gave no transcript ({type(error).__name__})") from None


def _wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(pcm)
    return file.getvalue()
