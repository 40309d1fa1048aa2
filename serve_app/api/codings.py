"""The format of an answer, by the request's fields or its `Accept` header."""

from typing import Any

from starlette.requests import Request

from serve_app.audio.encode.formats import FORMATS, AudioFormat, Coding, coding_of, format_accepted
from serve_app.messages import SAMPLE_RATE_HZ

AUDIO_CONTENT: dict[str, Any] = {kind.media_type: {} for kind in FORMATS}
"""For a route's `responses`."""


def asked_coding(
    request: Request, name: str | None, sample_rate_hz: int | None, default: AudioFormat, speed: float = 1.0
) -> Coding:
    """`name` comes first, then `Accept`, then `default`. Raises InvalidRequest."""
    if name is None:
        name = (format_accepted(request.headers.get("accept", "")) or default).name
    return coding_of(name, sample_rate_hz, speed)


def coding_headers(coding: Coding) -> dict[str, str]:
    """The rate, which formats without a header cannot tell."""
    return {} if coding.rate_hz == SAMPLE_RATE_HZ else {"X-CSM-Sample-Rate": str(coding.rate_hz)}
