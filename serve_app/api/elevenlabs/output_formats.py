"""ElevenLabs' names of formats: codec, sample rate in Hz, and kilobits a second, as in `mp3_44100_128`."""

from dataclasses import replace

from serve_app.audio.encode.formats import Coding, coding_of
from serve_app.errors import InvalidRequest

DEFAULT = "mp3_44100_128"
_PCM_RATES = (8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_BIT_RATES = {
    ("mp3", 22_050): (32,),
    ("mp3", 24_000): (48,),
    ("mp3", 44_100): (32, 64, 96, 128, 192),
    ("opus", 48_000): (32, 64, 96, 128, 192),
}
_CODECS = {"ulaw": "mulaw"}
NAMES = (
    *(f"{codec}_{rate}_{kilobits}" for (codec, rate), all_kilobits in _BIT_RATES.items() for kilobits in all_kilobits),
    *(f"{codec}_{rate}" for codec in ("pcm", "wav") for rate in _PCM_RATES),
    "ulaw_8000",
    "alaw_8000",
)


def coding_named(name: str, speed: float) -> Coding:
    """Raises InvalidRequest for another name than one of NAMES, and for a speed beyond its limits."""
    if name not in NAMES:
        raise InvalidRequest("format", f"is not one of {', '.join(NAMES)}: send one of these")
    codec, rate, *kilobits = name.split("_")
    coding = coding_of(_CODECS.get(codec, codec), int(rate), speed)
    return replace(coding, bit_rate=1000 * int(kilobits[0])) if kilobits else coding
