"""Everything that is spoken carries the watermark, whole and streamed, in every dialect, and loses no sample."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.contract_server import Server, serving

TEXT = "One two three four five six seven eight nine ten eleven twelve thirteen."
SAMPLES_OF_A_WORD = 1920


def with_mark(folder: Path, key: str) -> Iterator[Server]:
    with serving(folder, watermark={"use": "tests.support.noise_mark:open_mark", "key": key}) as server:
        yield server


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from with_mark(tmp_path_factory.mktemp("marked"), "ours")


@pytest.fixture(scope="module")
def unmarked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("unmarked")) as server:
        yield server


def verified(server: Server, audio: bytes) -> bool:
    answer = httpx.post(f"{server.url}/v1/audio/verify", files={"file": ("a.wav", audio, "audio/wav")})
    assert answer.status_code == 200, answer.text
    return answer.json()["watermarked"]


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
def test_speech_is_marked_and_as_long_as_before(marked: Server, unmarked: Server, streaming: bool) -> None:
    body = {"text": TEXT, "format": "pcm", "streaming": streaming}
    ours, plain = (httpx.post(f"{server.url}/generate", json=body).content for server in (marked, unmarked))
    assert len(ours) == len(plain) == 2 * SAMPLES_OF_A_WORD * len(TEXT.split())
    assert ours != plain
    wav = httpx.post(f"{marked.url}/generate", json={"text": TEXT, "streaming": streaming}).content
    assert verified(marked, wav)


def test_other_dialects_are_marked_too(marked: Server) -> None:
    flac = httpx.post(f"{marked.url}/v1/audio/speech", json={"input": TEXT, "response_format": "flac"}).content
    assert verified(marked, flac)
    body = {"scene": [{"text": TEXT, "speaker_id": 0}]}
    job = httpx.post(f"{marked.url}/fal/run/fal-ai/csm-1b", json=body).json()
    assert verified(marked, httpx.get(job["audio"]["url"]).content)


def test_speech_of_others_is_not_taken_for_ours(marked: Server, unmarked: Server, tmp_path: Path) -> None:
    plain = httpx.post(f"{unmarked.url}/generate", json={"text": TEXT}).content
    assert not verified(marked, plain)
    for other in with_mark(tmp_path, "theirs"):
        assert not verified(marked, httpx.post(f"{other.url}/generate", json={"text": TEXT}).content)


def test_info_says_whether_it_is_on(marked: Server, unmarked: Server) -> None:
    assert httpx.get(f"{marked.url}/info").json()["watermark"] == "noise"
    assert httpx.get(f"{unmarked.url}/info").json()["watermark"] is None
    refused = httpx.post(f"{unmarked.url}/v1/audio/verify", content=b"RIFF")
    assert refused.status_code == 400
    assert "watermark.use" in refused.json()["error"]["message"]
