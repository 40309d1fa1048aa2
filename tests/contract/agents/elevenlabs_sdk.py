"""ElevenLabs' own SDK, as it is but for its base URL, which must be https: its socket knows no other.

Prints one JSON object a line. Run by test_agents.py in an environment of its own.
"""

import base64
import json
import sys
from collections.abc import Iterator
from typing import Any

from elevenlabs import VoiceSettings
from elevenlabs.client import ElevenLabs
from elevenlabs.core import ApiError

SENTENCES = "One two three four five. Six seven eight nine ten."
VOICE = "JBFqnCBsd6RMkjVDRZzb"
PCM: dict[str, Any] = {"voice_id": VOICE, "output_format": "pcm_24000"}


def told(way: str, **more: Any) -> None:
    sys.stdout.write(f"{json.dumps({'way': way, **more})}\n")


def seconds(*pieces: bytes) -> float:
    return sum(map(len, pieces)) / 48_000


def by_word() -> Iterator[str]:
    for word in SENTENCES.split(" "):
        yield f"{word} "


def main(url: str) -> None:
    client = ElevenLabs(api_key="none", base_url=url)
    speech = client.text_to_speech
    told("convert", seconds=seconds(*speech.convert(text=SENTENCES, model_id="eleven_multilingual_v2", **PCM)))
    settings = VoiceSettings(stability=0.4, similarity_boost=0.7, speed=1.0)
    told("stream", seconds=seconds(*speech.stream(text=SENTENCES, voice_settings=settings, **PCM)))
    timed = speech.convert_with_timestamps(text=SENTENCES, **PCM)
    told("times", seconds=seconds(base64.b64decode(timed.audio_base_64)), text="".join(timed.alignment.characters))
    chunks = list(speech.stream_with_timestamps(text=SENTENCES, **PCM))
    text = "".join("".join(chunk.alignment.characters) for chunk in chunks if chunk.alignment)
    told("streamed times", seconds=seconds(*(base64.b64decode(chunk.audio_base_64) for chunk in chunks)), text=text)
    told("realtime", seconds=seconds(*speech.convert_realtime(text=by_word(), **PCM)))
    told("voices", names=[voice.name for voice in client.voices.get_all().voices])
    told("search", names=[voice.name for voice in client.voices.search(search="George").voices])
    told("models", names=[model.model_id for model in client.models.list()])
    told("user", status=client.user.get().subscription.status)
    for way, wrong in (("no such voice", {"voice_id": "nobody"}), ("no text", {"text": ""})):
        try:
            b"".join(speech.convert(**({"text": SENTENCES, **PCM} | wrong)))
        except ApiError as error:
            told(way, status=error.status_code, word=error.body["detail"]["status"])
    try:
        list(speech.convert_realtime(text=by_word(), voice_id="nobody"))
    except ApiError as error:
        told("no such voice in realtime", code=error.status_code, reason=str(error.body))


main(sys.argv[1])
