"""What a caller wrote is counted before it is built and validated, in every format and dialect."""

import json
from typing import Any

import httpx
import msgpack
import pytest
from fastapi import Request

from serve_app.api.bounded import MAX_VALUES, read_json, read_msgpack
from serve_app.api.fal.schema import parse
from serve_app.api.fal.upload_parts import read_parts
from serve_app.api.native_schema import GenerateBody, parse_form, parse_json
from serve_app.errors import InvalidRequest
from serve_app.settings import LimitSettings
from tests.support.api_harness import api, client

ZEROS = "[" + "0," * MAX_VALUES + "0]"
LISTS = "[" + "[]," * (MAX_VALUES // 2) + "[]]"


@pytest.mark.parametrize("values", [ZEROS, LISTS])
@pytest.mark.parametrize("read", [parse_json, parse])
def test_a_json_body_of_too_many_values_is_refused_unread(
    monkeypatch: pytest.MonkeyPatch, read: Any, values: str
) -> None:
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(InvalidRequest, match=f"body: holds more than {MAX_VALUES} values"):
        read(f'{{"text": "Hi.", "context": {values}}}'.encode())


def test_a_form_field_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(InvalidRequest, match=f"context: holds more than {MAX_VALUES} values"):
        parse_form({"text": "Hi.", "context": ZEROS})


@pytest.mark.parametrize(
    "message",
    [
        msgpack.packb([[0] * 9_000] * 18),
        b"\x91" + b"\xdd\x00\x00\x27\x10" + b"\x90" * 10_000 + b"\xdd\x00\x00\x27\x10" * 20,
        msgpack.packb({f"{part}": {f"{number}": 0 for number in range(9_000)} for part in range(18)}),
        b"\xdd\x01\xff\xff\xff" + b"\x90" * 1_000_000,
    ],
)
def test_messagepack_of_too_many_values_is_refused(message: bytes) -> None:
    with pytest.raises((InvalidRequest, ValueError)):
        read_msgpack("body", message)


def test_what_is_within_the_bound_is_read_as_it_is() -> None:
    values = {"scene": [{"text": "One, two, [three].", "speaker": 0}] * 32, "context": None, "seed": 7}
    assert read_json("body", json.dumps(values)) == read_json("body", json.dumps(values).encode()) == values
    assert read_msgpack("body", msgpack.packb(values) or b"") == values


@pytest.mark.parametrize(("name", "limit"), [("scene", 32), ("context", 16)])
@pytest.mark.parametrize("read", [parse_json, parse])
def test_a_list_that_is_too_long_is_refused_before_its_items_are_validated(name: str, limit: int, read: Any) -> None:
    body = json.dumps({"text": "Hi.", name: [0] * (limit + 1)}).encode()
    with pytest.raises(InvalidRequest, match=f"has {limit + 1} .* at most {limit}|from 1 to {limit}"):
        read(body)


def test_the_longest_lists_follow_the_settings() -> None:
    body = json.dumps({"scene": [{"text": "Hi."}] * 40}).encode()
    read = parse_json(body, LimitSettings(max_scene_turns=40))
    assert isinstance(read, GenerateBody) and len(read.scene or ()) == 40


async def test_a_list_of_parts_is_counted_too() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"parts": [' + b"0," * 100_000 + b"0]}", "more_body": False}

    with pytest.raises(InvalidRequest, match="parts: holds more than"):
        await read_parts(Request({"type": "http", "method": "POST"}, receive))


async def test_an_error_is_short_and_does_not_repeat_the_input() -> None:
    secret = "what only the caller should see"
    async with client(api()) as http:
        answer: httpx.Response = await http.post("/generate", json={"text": "Hi.", "context": [{secret: secret}] * 16})
    assert answer.status_code == 422
    assert secret not in answer.text and len(answer.content) < 300
