"""Bodies as loosely typed clients write them, and what the answer says about them."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.support.api_harness import api, generate
from tests.support.fakes import INFO, FakeDecoder


async def sent(body: dict[str, Any], decoder: FakeDecoder | None = None, **limits: Any) -> httpx.Response:
    answer = await generate(api(decoder, **limits), content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    return answer


SCENE = [{"text": "From the scene."}]


@pytest.mark.parametrize(
    ("body", "spoken"),
    [
        ({"text": "Hi.", "scene": []}, "Hi."),
        ({"text": "Hi.", "scene": ""}, "Hi."),
        ({"text": "Hi.", "scene": None}, "Hi."),
        ({"text": "Hi.", "scene": [{"text": ""}]}, "Hi."),
        ({"text": "", "scene": SCENE}, "From the scene."),
        ({"text": " ", "scene": SCENE}, "From the scene."),
        ({"text": "Hi.", "context": ""}, "Hi."),
        ({"text": "Hi.", "context": [], "seed": "", "temperature": "", "streaming": "", "speaker": ""}, "Hi."),
        ({"scene": [SCENE[0] | {"speaker": None}], "speaker": None}, "From the scene."),
    ],
    ids=ascii,
)
async def test_an_empty_counterpart_counts_as_left_out(body: dict[str, Any], spoken: str) -> None:
    await sent(body, decoder := FakeDecoder())
    assert [(request.text, request.speaker) for request in decoder.requests] == [(spoken, 0)]


async def test_an_empty_counterpart_in_a_form_counts_as_left_out() -> None:
    for data in ({"text": "", "scene": json.dumps(SCENE)}, {"text": "From the scene.", "scene": "[]", "context": ""}):
        answer = await generate(api(decoder := FakeDecoder()), data=data)
        assert (answer.status_code, decoder.requests[0].text) == (200, "From the scene.")


async def test_numbers_may_be_written_as_strings() -> None:
    body = {"text": "Hi.", "speaker": "3", "temperature": "0.7", "top_k": "7", "seed": "9", "greedy": "true"}
    await sent(body, decoder := FakeDecoder())
    sampling = decoder.requests[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.seed, sampling.greedy) == (0.7, 7, 9, True)
    assert decoder.requests[0].speaker == 3


async def test_conventions_of_other_servers_are_understood() -> None:
    for streaming in (False, True):
        body = {"text": "Hi.", "seed": -1, "temperature": 0, "top_k": 0, "streaming": streaming}
        answer = await sent(body, decoder := FakeDecoder())
        sampling = decoder.requests[0].sampling
        assert sampling.greedy
        assert sampling.top_k == INFO.codebook_size
        assert 0 <= sampling.seed < 2**53
        assert "x-csm-notice" not in answer.headers


async def test_a_value_above_a_limit_is_lowered_and_the_answer_says_so() -> None:
    answer = await sent({"text": "Hi.", "max_audio_seconds": 600}, max_audio_seconds=30)
    assert answer.headers["x-csm-notice"] == "max_audio_seconds: lowered to 30, the limit of this server"


@pytest.mark.parametrize(
    ("body", "notice"),
    [
        ({"temprature": 1}, "unknown field temprature was ignored, did you mean temperature?"),
        ({"maxAudioSeconds": 1}, "unknown field maxAudioSeconds was ignored, did you mean max_audio_seconds?"),
        ({"voice": "x"}, "unknown field voice was ignored"),
        ({"a\r\nSet-Cookie: b": 1}, "unknown field a??Set-Cookie??b was ignored"),
        ({"é\u4e2d": "words of the user"}, "unknown field ?? was ignored"),
        ({"x" * 5000: 1}, f"unknown field {'x' * 40} was ignored"),
    ],
    ids=lambda value: ascii(value)[:40],
)
async def test_an_unknown_field_is_ignored_and_named(body: dict[str, Any], notice: str) -> None:
    assert (await sent({"text": "Hi."} | body)).headers["x-csm-notice"] == notice


async def test_an_unknown_field_of_a_turn_is_named_with_its_place() -> None:
    answer = await sent({"scene": [{"text": "Hi."}, {"text": "Yes.", "spaeker": 1}]})
    assert answer.headers["x-csm-notice"] == "unknown field scene.1.spaeker was ignored, did you mean speaker?"


async def test_thousands_of_unknown_fields_are_counted() -> None:
    notice = (await sent({"text": "Hi."} | {f"field{number}": 1 for number in range(10_000)})).headers["x-csm-notice"]
    assert notice.endswith("; 9995 more unknown fields were ignored")
    assert len(notice) < 500


async def test_the_notice_of_the_weights_comes_first() -> None:
    info = replace(INFO, weights="random")
    answer = await sent({"text": "Hi.", "voice": 1}, FakeDecoder(info=info))
    assert answer.headers["x-csm-notice"] == f"{info.notice}; unknown field voice was ignored"


@pytest.mark.parametrize("streaming", [True, False])
async def test_what_of_the_text_is_not_spoken_is_told(streaming: bool) -> None:
    answer = await sent({"text": "Hi 👋.", "streaming": streaming})
    assert answer.headers["x-csm-text-notice"] == "emoji: 1 not spoken"


async def test_a_text_is_spoken_as_typed_where_the_caller_says_so() -> None:
    for normalize, spoken in ((True, "one"), (False, "1")):
        await sent({"text": "1", "normalize": normalize}, decoder := FakeDecoder())
        assert spoken in decoder.requests[0].text
