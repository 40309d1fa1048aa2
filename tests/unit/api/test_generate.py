"""POST /generate, what works: every content type, whole and streamed."""

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from serve_app.audio.wav import wav_header
from serve_app.messages import MAX_SEED, FinishReason
from serve_app.settings import SamplingSettings
from tests.support.api_harness import HEADER_BYTES, Exchange, api, client, generate, samples_of, wav
from tests.support.fakes import INFO, FakeDecoder, FakeEncoder, Utterance, pcm_of

SPOKEN = b"".join(pcm_of(n) for n in range(4))
CLIP = base64.b64encode(wav()).decode()


def multipart(**fields: str) -> dict[str, Any]:
    return {"files": {name: (None, value) for name, value in fields.items()}}


def is_stream(body: bytes) -> bool:
    return body[:HEADER_BYTES] == wav_header(None)


async def test_json_gets_a_whole_file() -> None:
    answer = await generate(api(), json={"text": "Hello."})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    assert samples_of(answer.content) == SPOKEN
    assert int(answer.headers["content-length"]) == len(answer.content)


async def test_a_streamed_body_holds_the_same_samples_after_a_header_without_sizes() -> None:
    answer = await generate(api(), json={"text": "Hello.", "streaming": True})
    assert answer.headers["content-type"] == "audio/wav"
    assert is_stream(answer.content)
    assert answer.content[HEADER_BYTES:] == SPOKEN


@pytest.mark.parametrize(
    ("request_body", "streams"),
    [
        ({"json": {"text": "Hi."}}, False),
        ({"json": {"text": "Hi.", "streaming": None}}, False),
        ({"data": {"text": "Hi."}}, True),
        ({"data": {"text": "Hi.", "streaming": ""}}, True),
        ({"data": {"text": "Hi.", "streaming": "false"}}, False),
        ({"data": {"text": "Hi.", "streaming": "0"}}, False),
        (multipart(text="Hi."), True),
        (multipart(text="Hi.", streaming="no"), False),
        ({"content": b'{"text": "Hi."}'}, False),
        ({"content": b'{"text": "Hi."}', "headers": {"content-type": "Application/JSON; charset=utf-8"}}, False),
    ],
    ids=str,
)
async def test_forms_stream_and_json_does_not_where_the_caller_does_not_say(
    request_body: dict[str, Any], streams: bool
) -> None:
    answer = await generate(api(), **request_body)
    assert answer.status_code == 200
    assert is_stream(answer.content) is streams


async def test_the_header_goes_out_alone_before_any_frame_is_made() -> None:
    decoder = FakeDecoder(Utterance(num_frames=0, stalls=True))
    exchange = Exchange(api(decoder), {"text": "Hi.", "streaming": True})
    await exchange.sent_at_least(2)
    assert exchange.bodies == [wav_header(None)]
    assert decoder.num_spoken == 0
    exchange.disconnect()
    await exchange.task


async def test_every_chunk_is_sent_as_it_comes_and_in_whole_samples() -> None:
    exchange = Exchange(api(FakeDecoder(Utterance(num_frames=5))), {"text": "Hi.", "streaming": True})
    await exchange.task
    assert [len(body) for body in exchange.bodies] == [HEADER_BYTES, 7680, 7680, 3840, 0]
    assert exchange.ended_cleanly


async def test_an_answer_without_a_single_frame_is_a_short_valid_file() -> None:
    decoder = FakeDecoder(Utterance(num_frames=0))
    answer = await generate(api(decoder), json={"text": "Hi."})
    assert (answer.status_code, samples_of(answer.content)) == (200, b"")
    assert answer.headers["x-csm-audio-seconds"] == "0.00"
    assert (await generate(api(decoder), data={"text": "Hi."})).content == wav_header(None)


async def test_headers_say_what_is_known_before_the_body() -> None:
    app = api()
    whole = (await generate(app, json={"text": "Hi.", "seed": 5})).headers
    assert (whole["x-csm-seed"], whole["x-csm-weights"]) == ("5", "trained")
    assert (whole["x-csm-finish-reason"], whole["x-csm-audio-seconds"]) == ("eos", "0.32")
    assert whole["x-csm-characters-spoken"] == "3"
    assert whole["content-disposition"] == f'attachment; filename="{whole["x-request-id"]}.wav"'
    streamed = (await generate(app, data={"text": "Hi.", "seed": "5"})).headers
    assert streamed["x-csm-seed"] == "5"
    assert (streamed["cache-control"], streamed["x-accel-buffering"]) == ("no-store", "no")
    assert streamed["content-disposition"] == f"attachment; filename=stream_{streamed['x-request-id'][:8]}.wav"
    assert "x-csm-finish-reason" not in streamed
    assert whole["x-request-id"] != streamed["x-request-id"]


async def test_random_weights_say_so() -> None:
    answer = await generate(api(FakeDecoder(info=replace(INFO, weights="random"))), json={"text": "Hi."})
    assert answer.headers["x-csm-weights"] == "random"


async def test_the_callers_request_id_is_kept() -> None:
    app = api(decoder := FakeDecoder())
    answer = await generate(app, json={"text": "Hi."}, headers={"X-Request-Id": "my.id-1"})
    assert [request.request_id for request in decoder.requests] == ["my.id-1"]
    assert answer.headers["content-disposition"] == 'attachment; filename="my.id-1.wav"'
    # Serve's proxy adds the header by itself to every answer of a request that had one.
    assert "x-request-id" not in answer.headers
    async with client(app) as http:
        assert (await http.get("/requests/my.id-1")).json()["finish_reason"] == "eos"


async def test_without_a_seed_each_answer_draws_one_and_says_which() -> None:
    app = api(decoder := FakeDecoder())
    seeds = [(await generate(app, json={"text": "Hi."})).headers["x-csm-seed"] for _ in range(4)]
    assert len(set(seeds)) == 4
    assert [str(request.sampling.seed) for request in decoder.requests] == seeds


@pytest.mark.parametrize("seed", [0, MAX_SEED])
async def test_the_whole_range_of_seeds_is_taken(seed: int) -> None:
    answer = await generate(api(decoder := FakeDecoder()), json={"text": "Hi.", "seed": seed})
    assert answer.headers["x-csm-seed"] == str(seed)
    assert decoder.requests[0].sampling.seed == seed


async def test_sampling_fields_override_the_servers_defaults() -> None:
    app = api(decoder := FakeDecoder(), sampling=SamplingSettings(temperature=0.5, top_k=20))
    await generate(app, json={"text": "Hi."})
    await generate(
        app,
        data={
            "text": "Hi.",
            "temperature": "0.7",
            "top_k": "9",
            "top_p": ".8",
            "repetition_penalty": "1.1",
            "greedy": "1",
        },
    )
    default, given = [request.sampling for request in decoder.requests]
    assert (default.temperature, default.top_k, default.top_p, default.greedy) == (0.5, 20, 1.0, False)
    assert (given.temperature, given.top_k, given.top_p, given.greedy) == (0.7, 9, 0.8, True)
    assert given.repetition_penalty == 1.1


async def test_a_default_top_k_above_a_small_models_codebook_takes_all_of_it() -> None:
    app = api(decoder := FakeDecoder(info=replace(INFO, codebook_size=16)))
    assert (await generate(app, json={"text": "Hi."})).status_code == 200
    assert decoder.requests[0].sampling.top_k == 16


@pytest.mark.parametrize("speaker", [3, "3", " 3 ", 3.0])
async def test_digits_in_a_string_are_a_speaker(speaker: Any) -> None:
    answer = await generate(api(decoder := FakeDecoder()), json={"text": "Hi.", "speaker": speaker})
    assert (answer.status_code, decoder.requests[0].speaker) == (200, 3)


@pytest.mark.parametrize("kind", ["json", "multipart", "urlencoded"])
async def test_context_and_scene_work_in_every_content_type(kind: str) -> None:
    context = [
        {"text": "So far.", "speaker": 1, "audio": CLIP},
        {"text": "And.", "audio": f"data:audio/wav;base64,{CLIP}"},
    ]
    scene = [{"text": "One.", "speaker": 1}, {"text": "Two."}]
    as_strings = {"context": json.dumps(context), "scene": json.dumps(scene)}
    bodies: dict[str, dict[str, Any]] = {
        "json": {"json": {"context": context, "scene": scene}},
        "multipart": multipart(**as_strings),
        "urlencoded": {"data": as_strings},
    }
    app = api(decoder := FakeDecoder(), encoder := FakeEncoder())
    assert (await generate(app, **bodies[kind])).status_code == 200
    assert [(request.text, request.speaker) for request in decoder.requests] == [("One.", 1), ("Two.", 0)]
    assert [(s.text, s.speaker) for s in decoder.requests[0].context] == [("So far.", 1), ("And.", 0)]
    assert [len(clip) for clip in encoder.clips] == [48_000, 48_000]


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (48_000, 8), (44_100, 2)])
async def test_context_audio_may_have_any_rate_and_channels(rate: int, channels: int) -> None:
    audio = base64.b64encode(wav(rate, rate=rate, channels=channels)).decode()
    app = api(encoder=(encoder := FakeEncoder()))
    answer = await generate(app, json={"text": "Hi.", "context": [{"text": "x", "audio": audio}]})
    assert answer.status_code == 200
    assert len(encoder.clips[0]) == 48_000


@pytest.mark.parametrize("kind", ["multipart", "multipart file", "urlencoded"])
async def test_context_in_a_form_field_may_be_megabytes(kind: str) -> None:
    context = json.dumps([{"text": "Long.", "audio": base64.b64encode(wav(40 * 24_000)).decode()}])
    assert len(context) > 2 * 2**20
    bodies: dict[str, dict[str, Any]] = {
        "multipart": multipart(text="Hi.", context=context),
        "multipart file": {"data": {"text": "Hi."}, "files": {"context": ("context.json", context)}},
        "urlencoded": {"data": {"text": "Hi.", "context": context}},
    }
    answer = await generate(api(decoder := FakeDecoder()), **bodies[kind])
    assert answer.status_code == 200
    assert decoder.requests[0].context[0].codes.num_frames == 500


@pytest.mark.parametrize("as_json", [True, False])
async def test_fields_of_other_servers_are_ignored(as_json: bool) -> None:
    fields = {
        "text": "Hi.",
        "language": "en",
        "ref_text": "x",
        "instruct": "y",
        "x_vector_only_mode": "true",
        "model": "m",
    }
    body: dict[str, Any] = (
        {"json": {**fields, "audio": [1]}}
        if as_json
        else {"data": fields, "files": {"audio": ("a.wav", b"\x00\xff" * 10, "audio/wav")}}
    )
    answer = await generate(api(decoder := FakeDecoder()), **body)
    assert answer.status_code == 200
    assert decoder.requests[0].context == ()


@pytest.mark.parametrize(
    "text",
    [
        "a|b",
        "<|AUDIO|>",
        "<|end_of_text|>",
        "👋🏽 hi",
        "a\x00b\x07",
        "שלום עולם",
        "<b>&amp;</b>",
        "100% + 1",
        "你好",
        "[1] hi",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("kind", ["json", "multipart", "urlencoded"])
async def test_any_text_reaches_the_model_unchanged(kind: str, text: str) -> None:
    bodies = {
        "json": {"json": {"text": text, "normalize": False}},
        "multipart": multipart(text=text, normalize="false"),
        "urlencoded": {"data": {"text": text, "normalize": "false"}},
    }
    answer = await generate(api(decoder := FakeDecoder()), **bodies[kind])
    assert answer.status_code == 200
    assert decoder.requests[0].text == text


async def test_half_a_surrogate_pair_in_json_is_replaced() -> None:
    answer = await generate(
        api(decoder := FakeDecoder()), content=rb'{"text": "a\ud800b", "x\udfff": 1, "normalize": false}'
    )
    assert answer.status_code == 200
    assert decoder.requests[0].text == "a\ufffdb"


async def test_utf8_that_a_form_did_not_escape_is_utf8() -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await generate(
        api(decoder := FakeDecoder()), content="normalize=0&text=Grüße+%F0%9F%91%8B".encode(), headers=headers
    )
    assert answer.status_code == 200
    assert decoder.requests[0].text == "Grüße 👋"


@pytest.mark.parametrize(
    "body",
    [
        {"content": b'{"text": "one", "text": "two"}'},
        {
            "content": urlencode([("text", "one"), ("text", "two")]),
            "headers": {"content-type": "application/x-www-form-urlencoded"},
        },
        {"files": [("text", (None, "one")), ("text", (None, "two"))]},
    ],
    ids=["json", "urlencoded", "multipart"],
)
async def test_of_a_field_sent_twice_the_last_one_counts(body: dict[str, Any]) -> None:
    assert (await generate(api(decoder := FakeDecoder()), **body)).status_code == 200
    assert decoder.requests[0].text == "two"


async def test_null_is_left_out() -> None:
    body = {"text": "Hi.", "scene": None, "context": None, "speaker": None, "seed": None, "temperature": None}
    answer = await generate(api(decoder := FakeDecoder()), json=body)
    assert (answer.status_code, decoder.requests[0].speaker) == (200, 0)


async def test_max_audio_seconds_cuts_the_answer() -> None:
    answer = await generate(api(), json={"text": "Hi.", "max_audio_seconds": 0.16})
    assert (answer.headers["x-csm-finish-reason"], answer.headers["x-csm-audio-seconds"]) == ("length", "0.16")


async def test_how_a_turn_ended_reaches_the_header() -> None:
    answer = await generate(api(FakeDecoder(Utterance(finish=FinishReason.RUNAWAY))), json={"text": "Hi."})
    assert answer.headers["x-csm-finish-reason"] == "runaway"
