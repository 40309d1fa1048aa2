"""Which speaker a voice of OpenAI's is."""

from typing import Any

from serve_app.errors import InvalidRequest

DEFAULT_VOICE = "alloy"
SPEAKERS = {
    "alloy": 0,
    "ash": 1,
    "ballad": 1,
    "cedar": 1,
    "coral": 0,
    "echo": 1,
    "fable": 0,
    "marin": 0,
    "nova": 0,
    "onyx": 1,
    "sage": 0,
    "shimmer": 0,
    "verse": 1,
}
"""By OpenAI's names. Sesame's checkpoint brings voices for 0 and 1 alone: other speakers differ from call to call."""
_NUMBERS = ("0", "1")
_MOST_DIGITS = 3


def speaker_of(voice: str) -> int:
    """The speaker's number: by name, or the number itself in digits. Raises InvalidRequest."""
    name = voice.strip().lower()
    if name in SPEAKERS:
        return SPEAKERS[name]
    if name.isascii() and name.isdecimal() and len(name) <= _MOST_DIGITS:
        return int(name)
    raise InvalidRequest(
        "voice", f"is not known here: send {', '.join(SPEAKERS)}, or a speaker's number from 0 to 999, such as 0 or 1"
    )


def listed_voices() -> list[dict[str, Any]]:
    """`id` is what to send. Of one speaker all voices sound alike."""
    numbers = [{"id": number, "name": f"Speaker {number}", "speaker": int(number)} for number in _NUMBERS]
    return numbers + [{"id": name, "name": name.capitalize(), "speaker": speaker} for name, speaker in SPEAKERS.items()]
