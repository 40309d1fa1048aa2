"""ElevenLabs' times of characters are those of the words that the aligner has found."""

import json
from typing import Any

import httpx
import pytest

from tests.support.demo_server import DemoServer

PATH = "/v1/text-to-speech/0"
BODY = {"text": "Good morning to you all. It is nice to see you on this fine day.", "seed": 5}


def starts_of_words(characters: list[str], starts: list[float]) -> list[float]:
    text = "".join(characters)
    return [starts[n] for n in range(len(text)) if text[n] != " " and (n == 0 or text[n - 1] == " ")]


@pytest.mark.parametrize("way", ["with-timestamps", "stream/with-timestamps"])
def test_they_are_the_words_times(server: DemoServer, way: str) -> None:
    answer = httpx.post(f"{server.url}{PATH}/{way}", params={"output_format": "pcm_24000"}, json=BODY, timeout=120)
    assert answer.status_code == 200
    told: list[dict[str, Any]] = [json.loads(line) for line in answer.text.splitlines()]
    aligned = [one["alignment"] for one in told if one["alignment"]]
    characters = [char for one in aligned for char in one["characters"]]
    starts = [at for one in aligned for at in one["character_start_times_seconds"]]
    assert "".join(characters) == BODY["text"]
    timeline = httpx.get(f"{server.url}/requests/{answer.headers['request-id']}/timeline?by=word", timeout=120).json()
    assert not any(word["is_estimated"] for word in timeline["lines"])
    found = [word["start_seconds"] for word in timeline["lines"]]
    assert starts_of_words(characters, starts) == pytest.approx(found, abs=0.002)
