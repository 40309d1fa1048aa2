"""`POST /generate` in other formats and rates, and the WAV it has always sent."""

from typing import Any

import pytest

from serve_app.audio.encode.formats import FORMATS
from serve_app.audio.wav import wav_header
from tests.support.api_harness import api, client, generate, samples_of
from tests.support.decoded import decoded
from tests.support.fakes import FakeDecoder, Utterance

TEXT = {"text": "Hello."}
NUM_SAMPLES = 4 * 1920


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "whole"])
async def test_an_answer_comes_in_the_format_that_is_asked_for(kind: Any, streaming: bool) -> None:
    answer = await generate(api(), json=TEXT | {"format": kind.name, "streaming": streaming})
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind.media_type)
    assert f".{kind.extension}" in answer.headers["content-disposition"]
    rate = kind.default_rate_hz
    assert answer.headers.get("x-csm-sample-rate") == (None if rate == 24_000 else str(rate))
    assert len(decoded(kind.name, answer.content, rate)) >= NUM_SAMPLES * rate // 24_000


@pytest.mark.parametrize("accept", ["*/*", "application/octet-stream", "audio/*", "text/html", "nonsense;;q=,"])
async def test_without_a_wish_it_is_the_wav_of_24_khz(accept: str) -> None:
    answer = await generate(api(), json=TEXT, headers={"accept": accept})
    assert answer.headers["content-type"] == "audio/wav"
    assert len(samples_of(answer.content)) == 2 * NUM_SAMPLES


async def test_a_streamed_wav_begins_with_its_header_alone() -> None:
    async with client(api()) as http, http.stream("POST", "/generate", json=TEXT | {"streaming": True}) as answer:
        pieces = [piece async for piece in answer.aiter_raw()]
    assert pieces[0].startswith(wav_header(None))
    assert len(b"".join(pieces)) == len(wav_header(None)) + 2 * NUM_SAMPLES


async def test_accept_counts_where_no_format_is_named() -> None:
    headers = {"accept": "audio/flac, */*;q=0.5"}
    assert (await generate(api(), json=TEXT, headers=headers)).headers["content-type"] == "audio/flac"
    named = await generate(api(), json=TEXT | {"response_format": "mp3"}, headers=headers)
    assert named.headers["content-type"] == "audio/mpeg"


async def test_a_form_names_format_and_rate_too() -> None:
    answer = await generate(api(), data=TEXT | {"format": "pcm", "sample_rate": "48000"})
    assert (answer.headers["content-type"], answer.headers["x-csm-sample-rate"]) == ("audio/pcm", "48000")
    assert len(answer.content) == 2 * 2 * NUM_SAMPLES


@pytest.mark.parametrize(
    ("wish", "field"),
    [({"format": "exe"}, "format"), ({"format": 3}, "format"), ({"sample_rate": 12_345}, "sample_rate"),
     ({"format": "opus", "sample_rate": 44_100}, "sample_rate"), ({"sample_rate": "fast"}, "sample_rate")],
)  # fmt: skip
async def test_what_cannot_be_made_is_refused_before_any_work(wish: dict[str, Any], field: str) -> None:
    answer = await generate(api(decoder := FakeDecoder()), json=TEXT | wish)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert decoder.requests == []


async def test_a_stream_that_breaks_is_broken_off_in_any_format() -> None:
    app = api(FakeDecoder(Utterance(break_with=RuntimeError("broken"))))
    with pytest.raises(RuntimeError, match="broken"):
        await generate(app, json=TEXT | {"streaming": True, "format": "mp3"})
