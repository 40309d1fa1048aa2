"""Which voice an id names: a kept voice, a speaker, or one of ElevenLabs' own voices."""

from typing import Any

from serve_app.api.elevenlabs.errors import unknown_voice
from serve_app.api.openai.voices import speaker_of
from serve_app.errors import InvalidRequest
from serve_app.keys.key import Key
from serve_app.speech.scene import Turn
from serve_app.speech.service import SpeechService
from serve_app.voices.voice import Voice

_SPEAKERS = (0, 1)
"""Sesame's checkpoint brings voices for these alone."""
_THEIRS = {
    "21m00Tcm4TlvDq8ikWAM": ("Rachel", 0),
    "AZnzlk1XvdvUeBnXmlld": ("Domi", 0),
    "EXAVITQu4vr4xnSDxMaL": ("Sarah", 0),
    "ErXwobaYiN019PkySvjV": ("Antoni", 1),
    "MF3mGyEYCl7XYWbV9V6O": ("Elli", 0),
    "TxGEqnHWrfWFTfGW9XjX": ("Josh", 1),
    "VR6AewLTigWG4xSOukaG": ("Arnold", 1),
    "pNInz6obpgDQGcFmaJgB": ("Adam", 1),
    "yoZ06aMxZJJ28mfd3POQ": ("Sam", 1),
    "9BWtsMINqrJLrRacOk9x": ("Aria", 0),
    "CwhRBWXzGAHq8TQ4Fs17": ("Roger", 1),
    "FGY2WhTYpPnrIDTdsKH5": ("Laura", 0),
    "IKne3meq5aSn9XLyUdCD": ("Charlie", 1),
    "JBFqnCBsd6RMkjVDRZzb": ("George", 1),
    "N2lVS1w4EtoT3dr4eOWO": ("Callum", 1),
    "SAz9YHcvj6GT2YYXdXww": ("River", 0),
    "TX3LPaxmHKxFdv7VOQHJ": ("Liam", 1),
    "XB0fDUnXU5powFXDhCwa": ("Charlotte", 0),
    "Xb7hH8MSUJpSbSDYk0k2": ("Alice", 0),
    "XrExE9yKIg1WjnnlVkGX": ("Matilda", 0),
    "bIHbv24MWmeRgasZH58o": ("Will", 1),
    "cgSgspJ2msm6clMCkdW9": ("Jessica", 0),
    "cjVigY5qzO86Huf0OWal": ("Eric", 1),
    "hpp4J3VqNfWAUOO0d1Us": ("Bella", 0),
    "iP95p4xoKVk53GoZ742B": ("Chris", 1),
    "nPczCjzI2devNBz1zQrb": ("Brian", 1),
    "onwK4e9ZLuTAKqWW03F9": ("Daniel", 1),
    "pFZP5JQG7iQjIQuC4Bku": ("Lily", 0),
    "pqHfZKP75CvOlQylNhV4": ("Bill", 1),
}
"""ElevenLabs' default voices, whose ids stand in their clients and examples. They sound like our two speakers."""


def speaker_with(voice_id: str) -> int:
    """By ElevenLabs' id, OpenAI's name, or a speaker's number. Raises InvalidRequest."""
    if voice_id in _THEIRS:
        return _THEIRS[voice_id][1]
    try:
        return speaker_of(voice_id)
    except InvalidRequest:
        raise unknown_voice(voice_id) from None


async def turn_with(voice_id: str, text: str, speech: SpeechService, key: Key) -> Turn:
    """The turn that says `text` with a kept voice of this key, by id or name, or a speaker's. Raises InvalidRequest."""
    kept = await speech.kept_voice(voice_id, key)
    return Turn(text, speaker_with(voice_id)) if kept is None else Turn(text, 0, voice=kept.id)


async def listed_voices(speech: SpeechService, key: Key) -> list[dict[str, Any]]:
    """`voice_id` is what to send. Those that the key keeps come first."""
    kept = await speech.voices.all(key.id) if speech.voices else []
    ours = [_speaker(str(number), f"Speaker {number}", number) for number in _SPEAKERS]
    theirs = [_speaker(voice_id, name, speaker) for voice_id, (name, speaker) in _THEIRS.items()]
    return [*map(_kept, kept), *ours, *theirs]


async def voice_with(voice_id: str, speech: SpeechService, key: Key) -> dict[str, Any]:
    """Raises InvalidRequest."""
    if (kept := await speech.kept_voice(voice_id, key)) is not None:
        return _kept(kept)
    name, speaker = _THEIRS.get(voice_id, (voice_id, speaker_with(voice_id)))
    return _speaker(voice_id, name, speaker)


def _kept(voice: Voice) -> dict[str, Any]:
    return _voice(voice.id, voice.name, "cloned") | {"is_owner": True, "created_at_unix": int(voice.created_at)}


def _speaker(voice_id: str, name: str, speaker: int) -> dict[str, Any]:
    described = {
        "description": f"Sounds like speaker {speaker} of this server",
        "labels": {"speaker": str(speaker)},
    }
    return _voice(voice_id, name, "premade") | described


def _voice(voice_id: str, name: str, category: str) -> dict[str, Any]:
    return {
        "voice_id": voice_id,
        "name": name,
        "category": category,
        "description": None,
        "labels": {},
        "samples": [],
        "settings": None,
        "preview_url": None,
        "available_for_tiers": [],
        "high_quality_base_model_ids": [],
        "is_owner": False,
        "is_legacy": False,
        "is_mixed": False,
    }
