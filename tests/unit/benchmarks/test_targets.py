"""What each kind of server is asked, and how its bytes are told apart."""

import base64
import io
import json
import wave
from typing import Any

import aiohttp
import pytest

from benchmarks.load.targets import Ask, OpenAi, Ours, Target, Vox, skipped
from benchmarks.load.wire_audio import NotWav, RawPcm, Wav
from benchmarks.load.workloads import Clip, Item, Turn, Workload, wav_file
from serve_app.audio.wav import wav_header

PCM = bytes(range(200))


def item(**changes: Any) -> Item:
    values: dict[str, Any] = {
        "scenario": "sentence",
        "turns": (Turn("Hello.", 1),),
        "context": (),
        "seed": 7,
        "number": 0,
        "max_audio_seconds": None,
    }
    return Item(**values | changes)


def fed(audio: Wav, data: bytes, size: int) -> bytes:
    return b"".join(audio.feed(data[at : at + size]) for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 43, 44, 45, 300])
@pytest.mark.parametrize("declared", [None, 100], ids=["unknown length", "known length"])
def test_a_header_is_no_audio_however_it_is_split(declared: int | None, size: int) -> None:
    audio = Wav()
    assert fed(audio, wav_header(declared) + PCM, size) == PCM
    assert audio.bytes_per_second == 48_000
    assert audio.missing_bytes == 0


def test_a_stream_that_says_no_size_at_all_is_read_to_its_end() -> None:
    # As vox-serve's: 0 in place of the size.
    assert fed(Wav(), wav_header(0) + PCM, 10) == PCM


def test_longer_headers_and_what_follows_the_audio_are_no_audio() -> None:
    plain = wav_file(PCM, 16_000)
    noted = plain[:36] + b"LIST" + (5).to_bytes(4, "little") + b"notes\0" + plain[36:] + b"LIST\4\0\0\0more"
    for size in (1, 11, 500):
        audio = Wav()
        assert fed(audio, noted, size) == PCM
        assert audio.bytes_per_second == 32_000


def test_what_was_promised_and_did_not_come_is_missing() -> None:
    audio = Wav()
    audio.feed(wav_header(100) + PCM[:150])
    assert audio.missing_bytes == 50


@pytest.mark.parametrize("data", [b'{"detail": "no"}', b"RIFF\0\0\0\0AVI LIST", b"ID3"], ids=["json", "avi", "mp3"])
@pytest.mark.parametrize("size", [1, 100])
def test_what_is_no_wav_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(NotWav):
        fed(Wav(), data, size)


def test_raw_pcm_is_all_audio() -> None:
    assert RawPcm().feed(PCM) == PCM


def test_ours_asks_for_a_stream_in_json() -> None:
    ask = Ours(extra={"temperature": 0.5}).ask(item(max_audio_seconds=3.0))
    assert ask.path == "/generate"
    assert ask.body == {
        "json": {
            "text": "Hello.",
            "speaker": 1,
            "streaming": True,
            "seed": 7,
            "max_audio_seconds": 3.0,
            "temperature": 0.5,
        }
    }


def test_ours_takes_scenes_and_contexts() -> None:
    clip = Clip("Before.", 0, wav_file(PCM, 24_000), 0.1)
    scene = item(scenario="scene", turns=(Turn("One.", 0), Turn("Two.", 1)), context=(clip,))
    body = Ours().ask(scene).body["json"]
    assert body["scene"] == [{"text": "One.", "speaker": 0}, {"text": "Two.", "speaker": 1}]
    assert "text" not in body
    [context] = body["context"]
    assert (context["text"], context["speaker"]) == ("Before.", 0)
    with wave.open(io.BytesIO(base64.b64decode(context["audio"]))) as file:
        assert file.readframes(1000) == PCM


async def test_vox_asks_by_a_multipart_form() -> None:
    ask = Vox(extra={"top_k": 3}).ask(item())
    assert ask.path == "/generate"
    sent = (await _body(ask)).decode()
    for name, value in {"text": "Hello.", "speaker": "1", "streaming": "true", "top_k": "3"}.items():
        assert f'name="{name}"' in sent
        assert f"\r\n\r\n{value}\r\n" in sent


@pytest.mark.parametrize(("form", "reader"), [("pcm", RawPcm), ("wav", Wav)])
def test_openai_is_asked_for_speech(form: str, reader: type) -> None:
    target = OpenAi(extra={"stream": True}, model="m", voice="v", response_format=form)
    ask = target.ask(item())
    assert ask.path == "/v1/audio/speech"
    assert ask.body["json"] == {
        "model": "m",
        "input": "Hello.",
        "voice": "v",
        "response_format": form,
        "stream": True,
    }
    assert isinstance(target.audio(), reader)
    json.dumps(ask.body["json"])


@pytest.mark.parametrize("target", [Vox(), OpenAi()], ids=["vox", "openai"])
def test_what_a_server_cannot_be_asked_is_named_with_the_reason(target: Target) -> None:
    everything = Workload(scenarios=("sentence", "scene", "conversation"))
    assert set(skipped(target, everything)) == {"scene", "conversation"}
    assert "context" in skipped(target, everything)["conversation"]
    assert set(skipped(target, Workload(context_seconds=2.0))) == {"sentence"}
    assert skipped(Ours(), everything) == {}


async def _body(ask: Ask) -> bytes:
    form = ask.body["data"]
    assert isinstance(form, aiohttp.FormData)
    payload = form()
    return await payload.as_bytes()
