"""fal's input: what is taken, what is refused, and where it says the mistake is."""

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.api.fal.errors import error_content, validation_content
from serve_app.api.fal.schema import asked, parse
from serve_app.errors import InvalidRequest
from serve_app.settings import Settings
from serve_app.speech.build import build_scene
from serve_app.speech.scene import AnswerFile, InlineAudio, Scene, UrlAudio
from tests.support.fakes import INFO

SETTINGS = Settings()
FILE = AnswerFile("http://csm")
TURN = {"text": "Hi.", "speaker_id": 0}
SPEAKER = {"prompt": "Before.", "speaker_id": 1, "audio_url": "https://example.com/a.wav"}


def read(body: Any) -> Scene:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return build_scene(asked(parse(content), FILE), INFO, SETTINGS)


def refusal(body: Any) -> list[dict[str, Any]]:
    try:
        read(body)
    except RequestValidationError as error:
        return validation_content(error)["detail"]
    except InvalidRequest as error:
        return error_content(error)["detail"]
    raise AssertionError("it was taken")


def test_the_least_input_takes_the_servers_defaults() -> None:
    scene = read({"scene": [TURN]})
    assert [(turn.text, turn.speaker) for turn in scene.turns] == [("Hi.", 0)]
    assert (scene.context, scene.seed) == ((), None)
    assert scene.max_audio_seconds == SETTINGS.limits.max_audio_seconds
    assert scene.sampling.temperature == SETTINGS.sampling.temperature


def test_fields_of_ours_are_taken() -> None:
    ours = {"seed": 7, "temperature": 0.5, "top_k": 9, "max_audio_seconds": 3, "output_format": "wav"}
    scene = read({"scene": [TURN], **ours})
    assert (scene.seed, scene.sampling.temperature, scene.sampling.top_k) == (7, 0.5, 9)
    assert scene.max_audio_seconds == 3


@pytest.mark.parametrize("audio", ["https://example.com/a.wav", {"url": "https://example.com/a.wav", "file_size": 3}])
def test_context_audio_is_a_url_or_a_file_of_an_earlier_answer(audio: Any) -> None:
    item = read({"scene": [TURN], "context": [SPEAKER | {"audio_url": audio}]}).context[0]
    assert (item.text, item.speaker, item.audio) == ("Before.", 1, UrlAudio("https://example.com/a.wav"))


def test_a_data_uri_is_its_bytes() -> None:
    uri = "data:audio/wav;base64,AAEC"
    assert read({"scene": [TURN], "context": [SPEAKER | {"audio_url": uri}]}).context[0].audio == InlineAudio(b"\0\1\2")


def test_null_and_empty_count_as_left_out_and_unknown_fields_are_ignored_by_name() -> None:
    scene = read({"scene": [TURN | {"x": 1}], "context": "", "seed": None, "temperature": "", "tempratur": {}})
    plain = read({"scene": [TURN]})
    assert (scene.turns, scene.context, scene.sampling) == (plain.turns, plain.context, plain.sampling)
    assert scene.remarks == (
        "unknown field scene.0.x was ignored",
        "unknown field tempratur was ignored, did you mean temperature?",
    )
    assert plain.remarks == ()


WORDLESS = {name: value for name, value in SPEAKER.items() if name != "prompt"}
REFUSED: list[tuple[Any, list[str | int], str]] = [
    (b"{", ["body"], "json_invalid"),
    (b"", ["body"], "json_invalid"),
    (b"\xff", ["body"], "json_invalid"),
    (b"[" * 100_000, ["body"], "json_invalid"),
    (b'{"seed": ' + b"9" * 5000 + b"}", ["body"], "json_invalid"),
    ([], ["body"], "dict_type"),
    ({}, ["body", "scene"], "missing"),
    ({"scene": "Hi."}, ["body", "scene"], "list_type"),
    ({"scene": []}, ["body", "scene"], "value_error"),
    ({"scene": [TURN] * 33}, ["body", "scene"], "value_error"),
    ({"scene": [{"speaker_id": 0}]}, ["body", "scene", 0, "text"], "missing"),
    ({"scene": [TURN, {"text": "Hi."}]}, ["body", "scene", 1, "speaker_id"], "missing"),
    ({"scene": [{"text": "Hi.", "speaker_id": True}]}, ["body", "scene", 0, "speaker_id"], "value_error"),
    ({"scene": [{"text": "Hi.", "speaker_id": 1000}]}, ["body", "scene", 0, "speaker_id"], "value_error"),
    ({"scene": [{"text": " ", "speaker_id": 0}]}, ["body", "scene", 0, "text"], "value_error"),
    ({"scene": [{"text": "x" * 20_001, "speaker_id": 0}]}, ["body", "scene", 0, "text"], "value_error"),
    ({"scene": [TURN], "context": [SPEAKER] * 17}, ["body", "context"], "value_error"),
    ({"scene": [TURN], "context": [{}]}, ["body", "context", 0, "speaker_id"], "missing"),
    ({"scene": [TURN], "context": [WORDLESS]}, ["body", "context", 0, "prompt"], "value_error"),
    ({"scene": [TURN], "context": [WORDLESS | {"prompt": None}]}, ["body", "context", 0, "prompt"], "value_error"),
    ({"scene": [TURN], "context": [SPEAKER | {"prompt": ""}]}, ["body", "context", 0, "prompt"], "value_error"),
    ({"scene": [TURN], "context": [SPEAKER | {"audio_url": 3}]}, ["body", "context", 0, "audio_url"], "string_type"),
    ({"scene": [TURN], "context": [SPEAKER | {"audio_url": {}}]}, ["body", "context", 0, "audio_url"], "string_type"),
    ({"scene": [TURN], "temperature": -1}, ["body", "temperature"], "value_error"),
    ({"scene": [TURN], "top_k": -2}, ["body", "top_k"], "value_error"),
    ({"scene": [TURN], "seed": -2}, ["body", "seed"], "value_error"),
    ({"scene": [TURN], "max_audio_seconds": 0}, ["body", "max_audio_seconds"], "value_error"),
    (b'{"scene": [{"text": "Hi.", "speaker_id": 0}], "temperature": NaN}', ["body", "temperature"], "value_error"),
    ({"scene": [TURN], "output_format": "exe"}, ["body", "output_format"], "literal_error"),
]


@pytest.mark.parametrize(("body", "loc", "kind"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_mistake_is_named_with_its_place(body: Any, loc: list[str | int], kind: str) -> None:
    first = refusal(body)[0]
    assert (first["loc"], first["type"]) == (loc, kind)
    assert set(first) == {"loc", "msg", "type"}


AUDIO = ["", "a.wav", "file:///etc/passwd", "ftp://example.com/a", "data:,x", "data:audio/wav;base64,!", "javascript:x"]


@pytest.mark.parametrize("url", AUDIO)
def test_audio_comes_from_http_or_a_data_uri_alone(url: str) -> None:
    assert refusal({"scene": [TURN], "context": [SPEAKER | {"audio_url": url}]})[0]["loc"][:3] == ["body", "context", 0]


def test_an_answer_does_not_repeat_the_input() -> None:
    body = {"scene": [TURN], "context": [SPEAKER | {"prompt": "private words", "speaker_id": "private words"}]}
    assert "private" not in json.dumps(refusal(body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TEXTS = st.text(max_size=40) | st.sampled_from(["\ud800", "\x00", "<|AUDIO|>", "‮", " " * 3])
NUMBERS = st.integers() | st.floats() | st.booleans() | st.text(max_size=5) | st.none()
TURNS = st.fixed_dictionaries({}, optional={"text": TEXTS | JSON, "speaker_id": NUMBERS | JSON})
URLS = TEXTS | st.sampled_from([*AUDIO, "https://[", "http://\ud800", "data:a;base64,AAAA"]) | JSON
SPEAKERS = st.fixed_dictionaries({}, optional={"prompt": TEXTS, "speaker_id": NUMBERS, "audio_url": URLS})
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "scene": st.lists(TURNS, max_size=4) | JSON,
        "context": st.lists(SPEAKERS, max_size=3) | JSON,
        "seed": NUMBERS,
        "temperature": NUMBERS,
        "top_k": NUMBERS,
        "max_audio_seconds": NUMBERS,
        "output_format": TEXTS,
    },
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES)
def test_any_input_is_taken_or_refused_with_a_place(body: dict[str, Any]) -> None:
    try:
        scene = read(body)
    except RequestValidationError as error:
        content = validation_content(error)
    except InvalidRequest as error:
        content = error_content(error)
    else:
        assert scene.turns
        assert all(turn.text.encode() for turn in scene.turns)
        return
    json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    assert all(problem["loc"][0] == "body" for problem in content["detail"])
