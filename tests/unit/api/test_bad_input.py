"""Every bad input gets its status, the field and a remedy; and nothing reaches the model."""

import base64
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from serve_app.errors import ContextTooLong, GenerationFailed, InvalidAudio, NotReady, Overloaded
from serve_app.messages import MAX_SEED
from tests.support.api_harness import api, client, generate, wav
from tests.support.fakes import FakeDecoder, FakeEncoder, Utterance

SECRET = "what only the caller should see"


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def clip(audio: Any, **fields: Any) -> dict[str, Any]:
    return {"text": "Hi.", "context": [{"text": "So far.", "audio": audio, **fields}]}


def float_wav(value: float) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(24_000, value, np.float32), 24_000, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


GOOD = base64_of(wav())
TRANSCRIPT = "is missing: send the transcript of this clip, the words spoken in it. CSM reads text and audio"
BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "text", "is missing: send text, or scene"),
    ({"text": None}, "text", "is missing: send text, or scene"),
    ({"text": ""}, "text", "send something to speak"),
    ({"text": " \t\n\u3000"}, "text", "send something to speak"),
    ({"text": "a" * 20_001}, "text", "20001 characters, at most 20000 are allowed: send it in several requests"),
    ({"text": 5}, "text", "must be a string"),
    ({"text": ["Hi."]}, "text", "must be a string"),
    ({"text": {"a": 1}}, "text", "must be a string"),
    ({"text": "Hi.", "scene": [{"text": "Hi."}]}, "text", "send one of them"),
    ({"scene": []}, "scene", "has 0 turns: send from 1 to 32"),
    ({"scene": [{"text": "Hi."}] * 33}, "scene", "has 33 turns: send from 1 to 32"),
    ({"scene": {"text": "Hi."}}, "scene", "must be a list of objects"),
    ({"scene": "Hi."}, "scene", "must be a list of objects"),
    ({"scene": ["Hi."]}, "scene.0", "must be an object"),
    ({"scene": [{"speaker": 1}]}, "scene.0.text", "is missing"),
    ({"scene": [{"text": "Hi."}, {"text": " "}]}, "scene.1.text", "send something to speak"),
    ({"scene": [{"text": "Hi.", "speaker": "abc"}]}, "scene.0.speaker", "must be an integer"),
    ({"scene": [{"text": "Hi.", "speaker": -1}]}, "scene.0.speaker", "must be an integer from 0 to 999"),
    ({"text": "Hi.", "speaker": "abc"}, "speaker", "must be an integer, such as 3"),
    ({"text": "Hi.", "speaker": -1}, "speaker", "must be an integer from 0 to 999"),
    ({"text": "Hi.", "speaker": 1.5}, "speaker", "must be an integer, such as 3"),
    ({"text": "Hi.", "speaker": True}, "speaker", "must be a number, not true or false"),
    ({"text": "Hi.", "speaker": 10**40}, "speaker", "must be an integer from 0 to 999"),
    ({"text": "Hi.", "speaker": "9" * 5000}, "speaker", "must be an integer"),
    ({"text": "Hi.", "speaker": []}, "speaker", "must be an integer"),
    ({"text": "Hi.", "temperature": -1}, "temperature", "must be from 0 to 5; 0 is greedy"),
    ({"text": "Hi.", "temperature": "hot"}, "temperature", "must be a number, such as 0.9"),
    ({"text": "Hi.", "temperature": True}, "temperature", "must be a number, not true or false"),
    ({"text": "Hi.", "temperature": float("nan")}, "temperature", "must be from 0"),
    ({"text": "Hi.", "temperature": float("inf")}, "temperature", "must be from 0"),
    ({"text": "Hi.", "temperature": 10**400}, "temperature", "must be a number"),
    ({"text": "Hi.", "top_k": -2}, "top_k", "must be from 1 to 2048; 0 or -1 switches it off"),
    ({"text": "Hi.", "top_k": 1.5}, "top_k", "must be an integer"),
    ({"text": "Hi.", "top_k": float("nan")}, "top_k", "must be a finite number"),
    ({"text": "Hi.", "top_p": 0}, "top_p", "must be above 0 and at most 1; 1 switches it off"),
    ({"text": "Hi.", "top_p": 1.01}, "top_p", "must be above 0 and at most 1"),
    ({"text": "Hi.", "top_p": float("nan")}, "top_p", "must be above 0 and at most 1"),
    ({"text": "Hi.", "repetition_penalty": 0}, "repetition_penalty", "must be from 1 to 2"),
    ({"text": "Hi.", "repetition_penalty": float("-inf")}, "repetition_penalty", "must be from 1 to 2"),
    ({"text": "Hi.", "greedy": "maybe"}, "greedy", "must be true or false"),
    ({"text": "Hi.", "streaming": 7}, "streaming", "must be true or false"),
    ({"text": "Hi.", "seed": -2}, "seed", "leave it out, or send -1, for chance"),
    ({"text": "Hi.", "seed": MAX_SEED + 1}, "seed", f"must be an integer from 0 to {MAX_SEED}"),
    ({"text": "Hi.", "seed": "random"}, "seed", "must be an integer"),
    ({"text": "Hi.", "seed": 0.5}, "seed", "must be an integer"),
    ({"text": "Hi.", "max_audio_seconds": 0}, "max_audio_seconds", "must be above 0 and at most 1800"),
    ({"text": "Hi.", "max_audio_seconds": float("nan")}, "max_audio_seconds", "must be above 0 and at most 1800"),
    ({"text": "Hi.", "context": {}}, "context", "must be a list of objects"),
    ({"text": "Hi.", "context": [5]}, "context.0", "must be an object"),
    ({"text": "Hi.", "context": [{"text": "x"}]}, "context.0.audio", "is missing"),
    ({"text": "Hi.", "context": [{"audio": GOOD}]}, "context.0.text", TRANSCRIPT),
    (clip(GOOD, text=None), "context.0.text", TRANSCRIPT),
    ({"text": "Hi.", "context": [{"text": "x", "audio": GOOD}] * 17}, "context", "has 17 segments: send at most 16"),
    (clip(GOOD, text=" "), "context.0.text", TRANSCRIPT),
    (clip(GOOD, speaker="x"), "context.0.speaker", "must be an integer"),
    (clip(GOOD, speaker=1000), "context.0.speaker", "must be an integer from 0 to 999"),
    (clip(5), "context.0.audio", "must be a string"),
    (clip(""), "context.0.audio", "is empty; send"),
    (clip("$$$"), "context.0.audio", "not valid base64; send"),
    (clip("\ud800"), "context.0.audio", "not valid base64; send"),
    (clip("data:audio/wav,abc"), "context.0.audio", "is not base64; write it as data:"),
    (clip(base64_of(b"this is not audio")), "context.0.audio", "cannot be decoded; send an intact wav"),
    (clip(base64_of(wav(0))), "context.0.audio", "is empty or shorter than 10 milliseconds; send a longer clip"),
    (clip(base64_of(wav(91 * 8000, rate=8000))), "context.0.audio", "is longer than 90 seconds; send a shorter clip"),
    (clip(base64_of(float_wav(float("nan")))), "context.0.audio", "not finite numbers; export it"),
]  # fmt: skip


def described(case: object) -> str:
    return ascii(case)[:60]


def assert_refused(answer: httpx.Response, field: str, remedy: str) -> None:
    body = answer.json()
    assert answer.status_code == 422, body
    assert body["field"] == field, body
    assert body["detail"].startswith(f"{field}: "), body
    assert remedy in body["detail"], body
    assert set(body) == {"detail", "field"}


@pytest.mark.parametrize(("body", "field", "remedy"), BAD_FIELDS, ids=described)
async def test_a_bad_field_in_json_is_refused_by_name(body: dict[str, Any], field: str, remedy: str) -> None:
    app = api(decoder := FakeDecoder(), encoder := FakeEncoder())
    assert_refused(await generate(app, content=json.dumps(body)), field, remedy)
    assert (decoder.requests, encoder.clips) == ([], [])


@pytest.mark.parametrize("kind", ["multipart", "urlencoded"])
@pytest.mark.parametrize(
    ("fields", "field", "remedy"),
    [
        ({}, "text", "is missing"),
        ({"text": ""}, "text", "send something to speak"),
        ({"text": "Hi.", "speaker": "abc"}, "speaker", "must be an integer"),
        ({"text": "Hi.", "speaker": "-1"}, "speaker", "must be an integer from 0 to 999"),
        ({"text": "Hi.", "speaker": "true"}, "speaker", "must be an integer"),
        ({"text": "Hi.", "temperature": "nan"}, "temperature", "must be from 0"),
        ({"text": "Hi.", "temperature": "1e400"}, "temperature", "must be from 0"),
        ({"text": "Hi.", "top_p": "inf"}, "top_p", "must be above 0 and at most 1"),
        ({"text": "Hi.", "seed": str(2**63)}, "seed", "must be an integer from 0"),
        ({"text": "Hi.", "streaming": "sometimes"}, "streaming", "must be true or false"),
        ({"text": "Hi.", "context": "not JSON"}, "context", "must hold JSON, a list of objects"),
        ({"text": "Hi.", "context": "5"}, "context", "must be a list of objects"),
        ({"text": "Hi.", "context": '[{"text": "x", "audio": "$"}]'}, "context.0.audio", "not valid base64"),
        ({"scene": "[" * 100_000}, "scene", "must hold JSON, a list of objects"),
        ({"scene": '{"text": "Hi."}'}, "scene", "must be a list of objects"),
        ({"scene": '[{"text": ""}]'}, "scene.0.text", "send something to speak"),
    ],
    ids=described,
)
async def test_a_bad_field_in_a_form_is_refused_by_name(
    kind: str, fields: dict[str, str], field: str, remedy: str
) -> None:
    parts = fields or {"other": "x"}
    body = {"data": parts} if kind == "urlencoded" else {"files": {name: (None, v) for name, v in parts.items()}}
    assert_refused(await generate(api(decoder := FakeDecoder()), **body), field, remedy)
    assert decoder.requests == []


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"", "is not valid JSON; send an object"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"text=Hi", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"a":' * 100_000, "is not valid JSON"),
        (b'{"text": "Hi.", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is not valid JSON"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b"[]", "must be a JSON object, such as"),
        (b"null", "must be a JSON object"),
        (b"5", "must be a JSON object"),
        (b'"Hi."', "must be a JSON object"),
        (b"NaN", "must be a JSON object"),
    ],
    ids=described,
)
async def test_a_body_that_is_no_json_object_is_refused(content: bytes, remedy: str) -> None:
    assert_refused(await generate(api(), content=content), "body", remedy)


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "multipart/mixed; boundary=x", "\u00e9/\u00ff"])
async def test_another_content_type_is_refused(kind: str) -> None:
    answer = await generate(api(), content=b"Hi.", headers={"content-type": kind.encode("latin-1")})
    assert_refused(answer, "body", "is not read here: send application/json or a form")


PART = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nHi.\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("multipart/form-data", PART),
        ("multipart/form-data; boundary=", PART),
        ("multipart/form-data; boundary=x", b"this is no part"),
        ("multipart/form-data; boundary=y", PART),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nHi.\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nHi.\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition form-data\r\n\r\nHi.\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x; charset=undefined", PART),
        ("multipart/form-data; boundary=x", PART[:20]),
        ("multipart/form-data; boundary=x", PART.replace(b"Hi.", b"Hi.\r\n--x\r\n") * 2000),
    ],
    ids=described,
)
async def test_a_malformed_form_is_refused(kind: str, content: bytes) -> None:
    answer = await generate(api(decoder := FakeDecoder()), content=content, headers={"content-type": kind})
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] in ("body", "text")
    assert decoder.requests == []


async def test_too_many_form_fields_are_refused() -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await generate(api(), content="text=Hi.&" + "a=1&" * 1000, headers=headers)
    assert_refused(answer, "body", "has more than 1000 form fields: send fewer")


async def test_an_id_of_more_than_512_bytes_is_refused() -> None:
    answer = await generate(api(), json={"text": "Hi."}, headers={"X-Request-Id": "x" * 513})
    assert_refused(answer, "X-Request-Id", "has 513 bytes, at most 512 are allowed: send a shorter id")


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (Overloaded("no room to wait", 7), 429, "no room to wait"),
        (NotReady("the models are still loading"), 503, "the models are still loading"),
        (GenerationFailed("the model failed"), 500, "the model failed"),
        (ContextTooLong("context", "is too long: shorten it"), 422, "context: is too long: shorten it"),
        (InvalidAudio("context.0.audio", "is odd: send another"), 422, "context.0.audio: is odd: send another"),
        (RuntimeError(SECRET), 500, "an unexpected error; the server's log has it"),
    ],
    ids=described,
)
async def test_a_refusal_is_a_status_and_never_a_200(
    streaming: bool, error: Exception, status: int, detail: str
) -> None:
    app = api(decoder := FakeDecoder(Utterance(refusal=error)))
    answer = await generate(app, json={"text": "Hi.", "streaming": streaming}, headers={"Origin": "http://page"})
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)
    assert answer.headers.get("retry-after") in (map(str, range(7, 11)) if status == 429 else (None,))
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "Traceback" not in answer.text
    assert decoder.num_open == 0


async def test_the_next_request_is_served_after_one_that_failed() -> None:
    app = api(FakeDecoder(Utterance(refusal=RuntimeError(SECRET)), Utterance()))
    assert (await generate(app, json={"text": "Hi."})).status_code == 500
    assert (await generate(app, json={"text": "Hi."})).status_code == 200


async def test_unknown_paths_and_methods_answer_in_the_same_shape() -> None:
    async with client(api()) as http:
        missing, method = await http.get("/nowhere"), await http.get("/generate")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    assert (method.status_code, method.json()) == (405, {"detail": "Method Not Allowed"})
    assert method.headers["allow"] == "POST"


async def test_those_who_were_refused_together_do_not_all_come_back_together() -> None:
    app = api(FakeDecoder(Utterance(refusal=Overloaded("busy", 10))))
    told = {(await generate(app, json={"text": "Hi."})).headers["retry-after"] for _ in range(40)}
    assert len(told) > 1 and told <= {str(seconds) for seconds in range(10, 16)}
