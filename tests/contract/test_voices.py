"""Kept voices over HTTP: two servers on one database and one store, as replicas are."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.contract_server import Server, serving
from tests.support.sounds import speech_like

CONSENT = {"statement": "I agree that my voice is used here.", "by": "Ann Example"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    folder = tmp_path_factory.mktemp("voices")
    with serving(folder, voices={"max_per_key": 20}) as here, serving(folder) as there:
        yield here, there


@pytest.fixture
def here(servers: tuple[Server, Server]) -> Server:
    return servers[0]


@pytest.fixture
def there(servers: tuple[Server, Server]) -> Server:
    return servers[1]


def upload(name: str, **changes: Any) -> dict[str, Any]:
    clip = {"text": "These are the words.", "audio": base64.b64encode(speech_like(4.0)).decode()}
    return {"name": name, "clips": [clip], "consent": CONSENT, "audition": False, **changes}


def kept(server: Server, name: str, **changes: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/voices", json=upload(name, **changes), timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()


def last_voice(server: Server) -> str:
    """The transcript of the voice that the last request had, or ""."""
    context = server.decoder.requests[-1].context
    return context[0].text if context else ""


def test_a_voice_kept_on_one_server_is_spoken_by_the_other_in_every_dialect(here: Server, there: Server) -> None:
    voice = kept(here, "Every dialect")
    for name in (voice["id"], "every dialect"):
        num_encoded = len(there.encoder.clips)
        spoken = httpx.post(f"{there.url}/generate", json={"text": "Hello there.", "voice": name})
        assert spoken.status_code == 200, spoken.text
        assert last_voice(there) == "These are the words."
        scene = {"scene": [{"text": "Hello.", "speaker": 4, "voice": name}, {"text": "Again.", "speaker": 4}]}
        assert httpx.post(f"{there.url}/generate", json=scene).status_code == 200
        assert there.decoder.requests[-1].context[0].speaker == 4
        for given in (name, {"id": name}):
            client = openai.OpenAI(base_url=f"{there.url}/v1", api_key="none")
            client.audio.speech.create(model="csm-1b", voice=given, input="Hello.", response_format="wav").read()  # type: ignore[arg-type]
            assert last_voice(there) == "These are the words."
        body = {"scene": [{"text": "Hello.", "speaker_id": 0, "voice": name}]}
        job = httpx.post(f"{there.url}/fal/run/fal-ai/csm-1b", json=body)
        assert job.status_code == 200, job.text
        assert last_voice(there) == "These are the words."
        assert len(there.encoder.clips) == num_encoded, "the codes are kept, so nothing is encoded"


def test_two_voices_of_a_scene_are_two_speakers(here: Server) -> None:
    for name in ("Left", "Right"):
        kept(here, name)
    scene = {"scene": [{"text": "Hello.", "voice": "Left"}, {"text": "Hi.", "voice": "Right"}]}
    assert httpx.post(f"{here.url}/generate", json=scene).status_code == 200
    first, second = here.decoder.requests[-2:]
    assert (first.speaker, second.speaker) == (0, 1)
    assert [segment.speaker for segment in second.context[:2]] == [0, 1]


def test_a_deleted_voice_is_spoken_by_no_server(here: Server, there: Server) -> None:
    voice = kept(here, "Soon gone")
    body = {"text": "Hello.", "voice": voice["id"]}
    assert httpx.post(f"{there.url}/generate", json=body).status_code == 200
    assert httpx.delete(f"{here.url}/voices/{voice['id']}").status_code == 204
    refused = httpx.post(f"{there.url}/generate", json=body)
    assert (refused.status_code, refused.json()["field"]) == (422, "voice")
    assert httpx.get(f"{there.url}/voices/{voice['id']}").status_code == 404


def test_an_upload_without_consent_is_refused_and_keeps_nothing(here: Server) -> None:
    before = httpx.get(f"{here.url}/voices").json()
    answer = httpx.post(f"{here.url}/voices", json=upload("No consent", consent={"by": "Ann"}))
    assert (answer.status_code, answer.json()["field"]) == (422, "consent.statement")
    assert httpx.get(f"{here.url}/voices").json() == before


def test_a_name_that_is_taken_is_refused(here: Server) -> None:
    kept(here, "Taken")
    assert httpx.post(f"{here.url}/voices", json=upload("TAKEN")).status_code == 409


def test_an_audition_speaks_three_sentences_and_keeps_their_scores(here: Server) -> None:
    voice = kept(here, "Auditioned", audition=True)
    scores = voice["audition"]["sentences"]
    assert [score["ends_by_itself"] for score in scores] == [True] * 3
    assert all(score["loudness_db"] is not None and score["words_heard"] is None for score in scores)
    assert httpx.get(f"{here.url}/voices/{voice['id']}").json()["audition"] == voice["audition"]


def test_openais_client_keeps_lists_uses_and_deletes_a_voice(here: Server) -> None:
    form = {
        "name": "By form",
        "text": "These are the words.",
        "consent": "I agree.",
        "consent_by": "Ann",
        "audition": "0",
    }
    sample = {"audio_sample": ("ann.wav", speech_like(4.0), "audio/wav")}
    made = httpx.post(f"{here.url}/v1/audio/voices", data=form, files=sample, timeout=60)
    assert made.status_code == 200, made.text
    voice = made.json()
    assert voice["object"] == "audio.voice"
    assert voice["id"] in [one["id"] for one in httpx.get(f"{here.url}/v1/audio/voices").json()["voices"]]
    gone = httpx.delete(f"{here.url}/v1/audio/voices/{voice['id']}").json()
    assert gone["deleted"]
    again = httpx.delete(f"{here.url}/v1/audio/voices/{voice['id']}")
    assert again.status_code == 404
    assert set(again.json()["error"]) == {"message", "type", "param", "code"}
    missing = httpx.post(f"{here.url}/v1/audio/voices", data={**form, "consent": ""}, files=sample)
    assert missing.status_code == 400
    assert missing.json()["error"]["param"] == "consent.statement"


def test_a_pack_carries_a_voice_and_shows_a_change(here: Server, tmp_path: Path) -> None:
    voice = kept(here, "Carried")
    pack = httpx.get(f"{here.url}/voices/{voice['id']}/pack").content
    loaded = httpx.post(f"{here.url}/voice-packs", params={"name": "Carried back"}, content=pack)
    assert loaded.status_code == 201, loaded.text
    assert loaded.json()["consent"] == voice["consent"]
    place = len(pack) - 100
    changed = httpx.post(f"{here.url}/voice-packs", content=pack[:place] + b"\x55\xaa" + pack[place + 2 :])
    assert (changed.status_code, changed.json()["field"]) == (422, "pack")
    signer = httpx.get(f"{here.url}/voice-packs/signer").json()["signer"]
    with serving(tmp_path / "stranger") as stranger:
        refused = httpx.post(f"{stranger.url}/voice-packs", content=pack)
        assert "voices.pack_signers" in refused.json()["detail"]
    with serving(tmp_path / "friend", voices={"pack_signers": [signer]}) as friend:
        welcome = httpx.post(f"{friend.url}/voice-packs", content=pack)
        assert welcome.status_code == 201, welcome.text
        assert httpx.post(f"{friend.url}/generate", json={"text": "Hello.", "voice": "Carried"}).status_code == 200


def test_a_key_neither_sees_nor_speaks_with_the_voice_of_another(tmp_path: Path) -> None:
    with serving(tmp_path, needs_keys=True) as server:
        one, two = (server.keys.create(name)[1] for name in ("one", "two"))
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Key {one}"}) as owner:
            voice = owner.post("/voices", json=upload("Mine"), timeout=60).json()
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Key {two}"}) as other:
            assert other.get("/voices").json() == {"voices": []}
            assert other.get(f"/voices/{voice['id']}").status_code == 404
            assert other.delete(f"/voices/{voice['id']}").status_code == 404
            assert other.post("/generate", json={"text": "Hello.", "voice": voice["id"]}).status_code == 422
