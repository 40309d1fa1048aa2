"""The formats of answers, in one table that all dialects share."""

from collections.abc import Iterable
from dataclasses import dataclass

from serve_app.errors import InvalidRequest
from serve_app.messages import SAMPLE_RATE_HZ

_RATES_HZ = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OPUS_RATES_HZ = (8000, 12_000, 16_000, 24_000, 48_000)
_TELEPHONE_HZ = 8000
SLOWEST, FASTEST = 0.25, 4.0
_RAW = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class AudioFormat:
    name: str
    media_type: str
    extension: str
    rates_hz: tuple[int, ...] = _RATES_HZ
    default_rate_hz: int = SAMPLE_RATE_HZ
    is_compressed: bool = False
    """Encoding a frame of speech takes up to a millisecond."""
    is_lossy: bool = False
    """Much of the sound is left out, as is seldom noticed."""
    aliases: tuple[str, ...] = ()
    other_media_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Coding:
    """How an answer is encoded. `coding_of` makes one that works."""

    format: AudioFormat
    rate_hz: int
    """One that the format allows."""
    speed: float = 1.0
    """2 is twice as fast. The pitch stays."""
    bit_rate: int | None = None
    """Bits a second of a compressed format. None is ours for its rate."""

    @property
    def is_costly(self) -> bool:
        """Whether encoding would hold up an event loop."""
        return self.format.is_compressed or self.speed != 1.0


WAV = AudioFormat("wav", "audio/wav", "wav", other_media_types=("audio/x-wav", "audio/wave", "audio/vnd.wave"))
MP3 = AudioFormat(
    "mp3", "audio/mpeg", "mp3",
    is_compressed=True, is_lossy=True, aliases=("mpeg",), other_media_types=("audio/mp3", "audio/mpeg3"),
)  # fmt: skip
FORMATS = (
    WAV,
    AudioFormat("pcm", "audio/pcm", "pcm", aliases=("pcm_s16le", "s16le", "raw"), other_media_types=("audio/x-pcm",)),
    MP3,
    AudioFormat(
        "opus", "audio/ogg", "ogg", _OPUS_RATES_HZ,
        is_compressed=True, is_lossy=True, aliases=("ogg", "ogg_opus"), other_media_types=("audio/opus",),
    ),
    AudioFormat("flac", "audio/flac", "flac", is_compressed=True, other_media_types=("audio/x-flac",)),
    AudioFormat(
        "aac", "audio/aac", "aac",
        is_compressed=True, is_lossy=True, aliases=("adts",), other_media_types=("audio/aacp", "audio/x-aac"),
    ),
    AudioFormat(
        "mulaw", "audio/basic", "ulaw", (_TELEPHONE_HZ,), _TELEPHONE_HZ,
        aliases=("ulaw", "mu-law", "u-law", "pcmu", "g711_ulaw"), other_media_types=("audio/pcmu", "audio/mulaw"),
    ),
    AudioFormat(
        "alaw", "audio/pcma", "alaw", (_TELEPHONE_HZ,), _TELEPHONE_HZ,
        aliases=("a-law", "pcma", "g711_alaw"), other_media_types=("audio/alaw", "audio/x-alaw-basic"),
    ),
)  # fmt: skip

_BY_NAME = {name: kind for kind in FORMATS for name in (kind.name, *kind.aliases)}
_BY_MEDIA_TYPE = {name: kind for kind in FORMATS for name in (kind.media_type, *kind.other_media_types)}
MEDIA_TYPES = {kind.name: kind.media_type for kind in FORMATS}


def coding_of(name: str, sample_rate_hz: int | None = None, speed: float = 1.0) -> Coding:
    """The coding that a caller names. None is the format's own rate. Raises InvalidRequest."""
    if not SLOWEST <= speed <= FASTEST:
        raise InvalidRequest("speed", f"must be from {SLOWEST:g} to {FASTEST:g}; 1 is the model's own")
    kind = _BY_NAME.get(name.strip().lower())
    if kind is None:
        raise InvalidRequest("format", f"is not one of {_listed(kind.name for kind in FORMATS)}: send one of these")
    rate_hz = kind.default_rate_hz if sample_rate_hz is None else sample_rate_hz
    if rate_hz not in kind.rates_hz:
        raise InvalidRequest("sample_rate", f"must be {_listed(map(str, kind.rates_hz))} (Hz) for {kind.name}")
    return Coding(kind, rate_hz, speed)


def format_accepted(accept: str) -> AudioFormat | None:
    """The format that an `Accept` header prefers. None where it names none, or likes anything else better."""
    best, best_quality, any_quality = None, 0.0, 0.0
    for item in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in item.split(";"))
        quality = _quality(parameters)
        kind = _BY_MEDIA_TYPE.get(media_type)
        if kind is not None and quality > best_quality:
            best, best_quality = kind, quality
        elif media_type in ("*/*", "audio/*", _RAW):
            any_quality = max(any_quality, quality)
    return best if best_quality >= any_quality else None


def _quality(parameters: Iterable[str]) -> float:
    """From 0 to 1. What is no number counts as 0."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
