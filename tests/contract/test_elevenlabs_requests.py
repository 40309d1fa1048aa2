"""ElevenLabs' requests over HTTP, as clients other than its own SDK send them."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.elevenlabs.output_formats import NAMES
from serve_app.keys.key import Scope
from tests.support.contract_server import Server, serving
from tests.support.decoded import decoded
from tests.support.fakes import pcm_of
from tests.support.system_packages import need

DOCS = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists()) / "docs/api/elevenlabs.md"
SPEECH = "/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM"
FOUR_WORDS = {"text": "One two three four.", "model_id": "eleven_turbo_v2_5"}
SHAKY = FOUR_WORDS | {"voice_settings": {"stability": 2}}
FRAME = 1920


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30, headers={"xi-api-key": "none"}) as http:
        yield http


def spoken(http: httpx.Client, path: str = "", output_format: str = "pcm_24000", **body: Any) -> httpx.Response:
    return http.post(f"{SPEECH}{path}", params={"output_format": output_format}, json=FOUR_WORDS | body)


@pytest.mark.parametrize("path", ["", "/stream"])
def test_mp3_is_the_default_at_its_rate(http: httpx.Client, path: str) -> None:
    answer = http.post(f"{SPEECH}{path}", json=FOUR_WORDS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg"), answer.text[:300]
    assert answer.headers["character-cost"] == str(len(FOUR_WORDS["text"]))
    assert answer.headers["request-id"] == answer.headers["x-csm-request-id"]
    # 128 kbit a second: half a second more or less is the frames at both ends.
    assert abs(len(answer.content) - 4 * 0.08 * 16_000) < 3000


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_spoken_in_its_rate(http: httpx.Client, name: str) -> None:
    answer = spoken(http, output_format=name)
    assert answer.status_code == 200, answer.text
    codec, rate, *_ = name.split("_")
    if codec in ("pcm", "ulaw", "alaw"):
        seconds = len(answer.content) / (2 if codec == "pcm" else 1) / int(rate)
    else:
        seconds = len(decoded(codec, answer.content)) / 24_000
    assert seconds == pytest.approx(4 * 0.08, abs=0.12)


@pytest.mark.parametrize("path", ["", "/stream", "/with-timestamps", "/stream/with-timestamps"])
def test_a_body_that_comes_after_its_headers_is_read(server: Server, path: str) -> None:
    def pieces() -> Iterator[bytes]:
        for piece in (b'{"text": "One two ', b'three four."}'):
            time.sleep(0.05)  # each goes in a packet of its own
            yield piece

    answer = httpx.post(f"{server.url}{SPEECH}{path}", content=pieces(), timeout=30)
    assert answer.status_code == 200, answer.text


def test_times_of_a_whole_text(http: httpx.Client) -> None:
    told = spoken(http, "/with-timestamps", text="It is $5 now. Six seven eight nine ten.").json()
    assert len(base64.b64decode(told["audio_base64"])) == (5 + 5 + 5) * 2 * FRAME
    times = told["alignment"]
    text = "".join(times["characters"])
    assert text == "It is $5 now. Six seven eight nine ten."
    second = text.index("Six")
    assert (times["character_start_times_seconds"][0], times["character_end_times_seconds"][second - 1]) == (0, 0.4)
    assert (times["character_start_times_seconds"][second], times["character_end_times_seconds"][-1]) == (0.8, 1.2)
    assert "".join(told["normalized_alignment"]["characters"]).startswith("It is five dollars now. Six")


@pytest.mark.parametrize("name", ["pcm_24000", "mp3_44100_128"])
def test_times_of_a_stream_follow_the_audio_of_their_part(http: httpx.Client, name: str) -> None:
    answer = spoken(http, "/stream/with-timestamps", name, text="One two three four. Five six seven eight.")
    told = [json.loads(line) for line in answer.text.splitlines()]
    whole = http.post(
        f"{SPEECH}/stream", params={"output_format": name}, json={"text": "One two three four. Five six seven eight."}
    )
    assert b"".join(base64.b64decode(one["audio_base64"]) for one in told) == whole.content
    times = [one["alignment"] for one in told if one["alignment"]]
    assert ["".join(one["characters"]) for one in times] == ["One two three four. ", "Five six seven eight."]
    assert [one["character_end_times_seconds"][-1] for one in times] == [0.32, 1.04]


def test_speed_shortens_the_sound_and_its_times(http: httpx.Client) -> None:
    told = spoken(http, "/with-timestamps", voice_settings={"speed": 2}).json()
    assert told["alignment"]["character_end_times_seconds"][-1] == 0.16
    assert len(base64.b64decode(told["audio_base64"])) == pytest.approx(2 * 0.16 * 24_000, abs=2000)


def test_stability_lowers_the_temperature_and_a_seed_repeats_it(http: httpx.Client, server: Server) -> None:
    for stability in (0, 0.5, 1):
        spoken(http, voice_settings={"stability": stability}, seed=5)
    drawn = [request.sampling for request in server.decoder.requests[-3:]]
    assert [round(sampling.temperature, 3) for sampling in drawn] == [1.08, 0.9, 0.72]
    assert {sampling.seed for sampling in drawn} == {5}


def test_what_has_no_effect_is_said(http: httpx.Client) -> None:
    answer = spoken(
        http, previous_text="Hi.", voice_settings={"style": 0.5, "stability": 0.5}, language_code="fr", nme=1
    )
    notice = answer.headers["x-csm-notice"]
    for part in ("nme was ignored", "previous_text: without effect", "language_code", "voice_settings.style"):
        assert part in notice
    assert answer.content == pcm_of(1) * 4


def test_numbers_are_read_as_typed_where_normalisation_is_off(http: httpx.Client, server: Server) -> None:
    spoken(http, text="It is $5.", apply_text_normalization="off")
    assert server.decoder.requests[-1].text == "It is $5."


@pytest.mark.parametrize(
    ("path", "body", "query", "status", "word", "param"),
    [
        ("/v1/text-to-speech/nobody", FOUR_WORDS, {}, 404, "voice_not_found", "voice_id"),
        (SPEECH, {"text": " "}, {}, 422, "invalid_request", "text"),
        (SPEECH, {}, {}, 422, "invalid_request", "text"),
        (SPEECH, FOUR_WORDS | {"seed": "x"}, {}, 422, "invalid_request", "seed"),
        (SPEECH, SHAKY, {}, 422, "invalid_request", "voice_settings.stability"),
        (SPEECH, FOUR_WORDS | {"voice_settings": {"speed": 9}}, {}, 422, "invalid_request", "speed"),
        (SPEECH, FOUR_WORDS, {"output_format": "mp4"}, 422, "invalid_request", "output_format"),
        (SPEECH, [], {}, 422, "invalid_request", "body"),
        ("/v1/history", {}, {}, 404, "not_found", None),
    ],
    ids=["voice", "blank", "no text", "seed", "stability", "speed", "format", "a list", "no such path"],
)  # fmt: skip
def test_errors_have_elevenlabs_shape(
    http: httpx.Client, path: str, body: Any, query: dict[str, str], status: int, word: str, param: str | None
) -> None:
    answer = http.post(path, json=body, params=query)
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["status"], detail["code"], detail["param"]) == (status, word, word, param)
    assert detail["message"]


def test_voices_are_listed_and_each_of_them_speaks(http: httpx.Client) -> None:
    voices = http.get("/v1/voices").json()["voices"]
    assert {"0", "1", "21m00Tcm4TlvDq8ikWAM", "JBFqnCBsd6RMkjVDRZzb"} <= {voice["voice_id"] for voice in voices}
    for voice in (*voices, {"voice_id": "alloy"}, {"voice_id": "17"}):
        assert http.get(f"/v1/voices/{voice['voice_id']}").json()["voice_id"] == voice["voice_id"]
    answer = http.post(f"/v1/text-to-speech/{voices[1]['voice_id']}?output_format=pcm_24000", json=FOUR_WORDS)
    assert answer.content == pcm_of(2) * 4
    found = http.get("/v2/voices", params={"search": "rach", "page_size": 5}).json()
    assert ([voice["name"] for voice in found["voices"]], found["has_more"]) == (["Rachel"], False)
    assert http.get("/v1/voices/nobody").status_code == 404


def test_the_command_in_the_docs_works(server: Server, tmp_path: Path) -> None:
    need("curl")
    command = DOCS.read_text().partition("```bash\n")[2].partition("```")[0]
    assert "localhost:8000" in command
    subprocess.run(command.replace("localhost:8000", server.host), shell=True, cwd=tmp_path, check=True, timeout=60)
    assert len(decoded("mp3", (tmp_path / "hello.mp3").read_bytes())) >= 2 * FRAME


def test_the_docs_name_every_format(server: Server) -> None:
    text = DOCS.read_text()
    for name in NAMES:
        codec, rate, *kilobits = name.split("_")
        assert f"{codec}_" in text and (not kilobits or f"{codec}_{rate}_" in text)


def test_both_dialects_list_their_models_at_the_same_path(http: httpx.Client, server: Server) -> None:
    assert http.get("/v1/models").json()[0]["can_do_text_to_speech"] is True
    assert httpx.get(f"{server.url}/v1/models").json()["object"] == "list"


def test_a_client_may_ask_who_it_is(http: httpx.Client) -> None:
    assert http.get("/v1/user").json()["subscription"]["status"] == "active"
    assert http.get("/v1/user/subscription").json()["character_limit"] > 0


def test_a_key_is_sent_as_elevenlabs_clients_do(tmp_path: Path) -> None:
    with serving(tmp_path, needs_keys=True) as server:
        _, key = server.keys.create("Ann", scopes=frozenset({Scope.SPEECH}))
        for path in (SPEECH, "/v1/voices", "/v1/user"):
            method = "POST" if path == SPEECH else "GET"
            refused = httpx.request(method, f"{server.url}{path}", headers={"xi-api-key": "wrong"})
            assert (refused.status_code, refused.json()["detail"]["status"]) == (401, "invalid_api_key")
        answer = httpx.post(f"{server.url}{SPEECH}", json=FOUR_WORDS, headers={"xi-api-key": key})
        assert answer.status_code == 200
