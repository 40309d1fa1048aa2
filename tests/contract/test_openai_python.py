"""OpenAI's own Python client, sync and async, as it is but for its base URL."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from serve_app.api.openai.voices import listed_voices
from serve_app.keys.key import Scope
from tests.support.contract_server import Server, serving
from tests.support.decoded import decoded
from tests.support.fakes import pcm_of
from tests.support.waiting import until

SIX_WORDS: dict[str, Any] = {"model": "tts-1", "voice": "alloy", "input": "One two three four five six."}
DOCS = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists()) / "docs" / "api.md"
FRAMES = 6
SAMPLES = FRAMES * 1920


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-none", base_url=f"{server.url}/v1", timeout=30, max_retries=0) as client:
        yield client


def events_of(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: ")]


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("mp3", "audio/mpeg"), ("opus", "audio/ogg"), ("aac", "audio/aac"), ("flac", "audio/flac"), ("wav", "audio/wav"),
     ("pcm", "audio/pcm")],
)  # fmt: skip
def test_speech_comes_in_each_of_openais_formats(client: openai.OpenAI, name: Any, media_type: str) -> None:
    answer = client.audio.speech.create(**SIX_WORDS, response_format=name)
    assert answer.response.headers["content-type"] == media_type
    samples = decoded(name, answer.content)
    assert SAMPLES <= len(samples) < SAMPLES + 3000


def test_mp3_is_the_default(client: openai.OpenAI) -> None:
    assert client.audio.speech.create(**SIX_WORDS).response.headers["content-type"] == "audio/mpeg"


def test_a_stream_goes_into_a_file(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "speech.pcm"
    with client.audio.speech.with_streaming_response.create(**SIX_WORDS, response_format="pcm") as answer:
        answer.stream_to_file(path)
    assert path.read_bytes() == pcm_of(1) * FRAMES


async def test_the_async_client_hears_a_stream_before_it_has_ended(server: Server) -> None:
    server.decoder.go_on.clear()
    text = "One two waitforever"
    async with (
        openai.AsyncOpenAI(api_key="sk-none", base_url=f"{server.url}/v1", timeout=30) as client,
        client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="echo", input=text, response_format="pcm"
        ) as answer,
    ):
        heard = b""
        async for piece in answer.iter_bytes():
            heard += piece
            if len(heard) >= 3 * 3840:
                server.decoder.go_on.set()
    assert heard == pcm_of(2) * 3


def test_leaving_a_stream_cancels_it(client: openai.OpenAI, server: Server) -> None:
    server.decoder.go_on.clear()
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="waitforever", response_format="mp3"
    ):
        assert server.decoder.num_open == 1
    until(lambda: server.decoder.num_open == 0, "the slot is free")


@pytest.mark.parametrize("name", ["mp3", "pcm"])
def test_server_sent_events_hold_one_stream_and_its_usage(client: openai.OpenAI, name: Any) -> None:
    with client.audio.speech.with_streaming_response.create(
        **SIX_WORDS, response_format=name, stream_format="sse", extra_body={"seed": 7}
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        *deltas, done = events_of(answer)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    audio = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert len(decoded(name, audio)) >= SAMPLES
    assert done["type"] == "speech.audio.done"
    assert done["usage"] == {"input_tokens": 10, "output_tokens": FRAMES, "total_tokens": 10 + FRAMES}
    assert (done["finish_reason"], done["seed"]) == ("eos", 7)


def test_a_failure_after_the_first_sound_is_an_event_of_its_own(client: openai.OpenAI) -> None:
    lines: list[str] = []
    with (
        pytest.raises(httpx2.RemoteProtocolError),
        client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input="A breakdown.", stream_format="sse"
        ) as answer,
    ):
        for line in answer.iter_lines():
            lines.append(line)
    last = json.loads([line for line in lines if line][-1].removeprefix("data: "))
    assert (last["type"], last["error"]["type"]) == ("error", "server_error")


@pytest.mark.parametrize(
    ("voice", "speaker"),
    [("alloy", 0), ("Echo", 1), ("1", 1), ({"id": "onyx"}, 1), ({"id": "0"}, 0), ("17", 17)],
)
def test_voices_are_speakers(client: openai.OpenAI, server: Server, voice: Any, speaker: int) -> None:
    client.audio.speech.create(model="tts-1", voice=voice, input="Hi.")
    assert server.decoder.requests[-1].speaker == speaker


def test_our_own_fields_go_into_extra_body(client: openai.OpenAI, server: Server, clip: Path) -> None:
    extra = {
        "seed": 5,
        "temperature": 0.5,
        "top_k": 3,
        "normalize": False,
        "max_audio_seconds": 0.16,
        "sample_rate": 48_000,
        "context": [{"text": "Before.", "speaker": 1, "audio": base64.b64encode(clip.read_bytes()).decode()}],
    }
    answer = client.audio.speech.create(
        model="tts-1", voice="alloy", input="1 2 3 4 5", response_format="pcm", extra_body=extra
    )
    [request] = server.decoder.requests[-1:]
    assert (request.text, request.sampling.seed, request.sampling.top_k) == ("1 2 3 4 5", 5, 3)
    assert [segment.text for segment in request.context] == ["Before."]
    assert len(answer.content) == 2 * 2 * 2 * 1920  # two frames at twice the rate
    assert answer.response.headers["x-csm-seed"] == "5"


def test_speed_keeps_the_pitch_and_shortens_the_speech(client: openai.OpenAI) -> None:
    text = "word " * 20
    answer = client.audio.speech.create(model="tts-1", voice="alloy", input=text, response_format="pcm", speed=2)
    assert len(answer.content) == pytest.approx(20 * 3840 / 2, abs=3840)


def test_instructions_and_models_that_have_no_effect_are_named(client: openai.OpenAI) -> None:
    answer = client.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input="Hi.", instructions="Whisper.", extra_body={"pitch": 2}
    )
    notice = answer.response.headers["x-csm-notice"]
    assert "unknown field pitch was ignored" in notice
    assert "instructions: without effect" in notice
    assert answer.response.headers["x-csm-model"] == "fake"


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"voice": "gandalf"}, "voice", "alloy, ash"),
        ({"voice": "1000"}, "voice", "0 to 999"),
        ({"voice": {"name": "x"}}, "voice", "string"),
        ({"input": " "}, "input", "is empty"),
        ({"input": "x" * 20_001}, "input", "at most 20000"),
        ({"response_format": "exe"}, "response_format", "wav, pcm, mp3"),
        ({"stream_format": "x"}, "stream_format", "'audio' or 'sse'"),
        ({"speed": 9}, "speed", "0.25 to 4"),
        ({"extra_body": {"sample_rate": 5}}, "sample_rate", "8000"),
        ({"extra_body": {"context": [{"audio": "AAAA"}]}}, "context.0.text", "transcript"),
    ],
)
def test_bad_input_is_a_bad_request_with_its_parameter(
    client: openai.OpenAI, change: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.speech.create(**(SIX_WORDS | change))
    error = refused.value
    assert (error.param, error.type) == (param, "invalid_request_error")
    assert says in error.message
    assert error.response.headers["x-should-retry"] == "false"


def test_a_busy_server_is_asked_again(server: Server) -> None:
    with openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", timeout=30, max_retries=2) as client:
        server.decoder.refusals_left = 1
        assert client.audio.speech.create(**SIX_WORDS).content
        server.decoder.refusals_left = 1
        with pytest.raises(openai.RateLimitError) as refused:
            client.with_options(max_retries=0).audio.speech.create(**SIX_WORDS)
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.response.headers["retry-after"] in ("1", "2")


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["fake", "csm-1b", "sesame/csm-1b", "tts-1", "tts-1-hd", "gpt-4o-mini-tts"]
    assert [client.models.retrieve(name).id for name in names] == names
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("gpt-5")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


def test_an_unknown_path_is_not_found_in_openais_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nothing is served here"):
        client.chat.completions.create(model="x", messages=[])


def test_keys_are_bearer_tokens(tmp_path: Path) -> None:
    with serving(tmp_path, needs_keys=True) as server:
        base = f"{server.url}/v1"
        with openai.OpenAI(api_key="sk-wrong", base_url=base, max_retries=0, timeout=30) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                client.audio.speech.create(**SIX_WORDS)
            assert refused.value.code == "invalid_api_key"
            for scope, expected in ((Scope.SPEECH, None), (Scope.METRICS, openai.PermissionDeniedError)):
                speaking = client.with_options(api_key=made_key(server, scope))
                assert list(speaking.models.list())
                if expected is None:
                    assert speaking.audio.speech.create(**SIX_WORDS).content
                    continue
                with pytest.raises(expected):
                    speaking.audio.speech.create(**SIX_WORDS)


def made_key(server: Server, scope: Scope) -> str:
    return server.keys.create("test", [scope])[1]


def test_the_example_in_the_docs_works(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = DOCS.read_text().partition("\n## OpenAI\n")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    assert "http://localhost:8000" in example
    monkeypatch.chdir(tmp_path)
    exec(example.replace("http://localhost:8000", server.url), {})
    assert len(decoded("mp3", (tmp_path / "hello.mp3").read_bytes())) >= 2 * 1920


def test_the_docs_list_every_voice_at_its_speaker() -> None:
    rows = re.findall(r"^\| (\d) \| (`.+) \|$", DOCS.read_text().partition("**Voices.**")[2], re.MULTILINE)
    listed = {voice: int(speaker) for speaker, voices in rows for voice in re.findall(r"`(\w+)`", voices)}
    assert listed == {voice["id"]: voice["speaker"] for voice in listed_voices()}
