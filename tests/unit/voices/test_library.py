"""What a library keeps is whole, is found on every replica, and is gone on every replica once it is removed."""

import asyncio

import pytest

from serve_app.errors import InvalidRequest, QuotaExceeded, UnknownVoice, VoiceNameTaken
from serve_app.voices.voice import Consent
from tests.unit.voices.conftest import OWNER, Kit, new_voice


async def test_a_voice_is_found_by_id_and_by_name_on_every_replica(kit: Kit) -> None:
    kept = await kit.here.add(new_voice("Ann  of Cleves"), OWNER)
    for name in (kept.id, "Ann  of Cleves", " ann  OF cleves "):
        assert await kit.there.find(name, OWNER) == kept
    assert await kit.there.all(OWNER) == [kept]
    assert kept.id.startswith("voice_")


async def test_another_key_does_not_find_it(kit: Kit) -> None:
    kept = await kit.here.add(new_voice(), OWNER)
    for attempt in (kit.here.find(kept.id, "csm_two"), kit.here.remove(kept.id, "csm_two")):
        with pytest.raises(UnknownVoice):
            await attempt
    assert await kit.here.all("csm_two") == []


async def test_its_codes_come_from_the_store_without_the_encoder(kit: Kit) -> None:
    kept = await kit.here.add(new_voice(num_clips=2), OWNER)
    num_encoded = len(kit.encoder.clips)
    segments = await kit.there.segments(kept.id, OWNER, speaker=3)
    assert [(s.text, s.speaker, s.anchor) for s in segments] == [(text, 3, True) for text in kept.transcripts]
    assert all(segment.codes.num_frames for segment in segments)
    assert len(kit.encoder.clips) == num_encoded == 2


async def test_a_removed_voice_is_spoken_by_no_replica(kit: Kit) -> None:
    kept = await kit.here.add(new_voice(), OWNER)
    await kit.there.segments(kept.id, OWNER, 0)
    await kit.here.remove(kept.name, OWNER)
    with pytest.raises(UnknownVoice):
        await kit.there.segments(kept.id, OWNER, 0)


async def test_another_codec_encodes_it_once_for_all_replicas(kit: Kit) -> None:
    kept = await kit.here.add(new_voice(), OWNER)
    kit.encoder.codec_name = "newer"
    clips = [kit.library(kit.encoder) for _ in range(2)]
    num_encoded = len(kit.encoder.clips)
    for library in clips:
        assert await library.segments(kept.id, OWNER, 0)
    assert len(kit.encoder.clips) == num_encoded + 1


async def test_of_two_uploads_of_one_name_one_is_kept_whole(kit: Kit) -> None:
    results = await asyncio.gather(
        kit.here.add(new_voice("Ann", num_clips=1), OWNER),
        kit.there.add(new_voice("ann", num_clips=2), OWNER),
        return_exceptions=True,
    )
    (error,) = (result for result in results if isinstance(result, BaseException))
    assert isinstance(error, VoiceNameTaken)
    (kept,) = await kit.here.all(OWNER)
    assert kept in results
    assert len(await kit.there.segments(kept.id, OWNER, 0)) == len(kept.transcripts)


async def test_a_key_keeps_so_many_voices(kit: Kit) -> None:
    small = kit.library(max_per_key=1)
    await small.add(new_voice("Ann"), OWNER)
    num_encoded = len(kit.encoder.clips)
    with pytest.raises(QuotaExceeded, match="may keep 1 voices"):
        await small.add(new_voice("Ben"), OWNER)
    assert len(kit.encoder.clips) == num_encoded, "limits come before work"
    await small.add(new_voice("Ben"), "csm_two")


@pytest.mark.parametrize(
    ("consent", "field"),
    [(Consent(" ", "Ann"), "consent.statement"), (Consent("I agree.", ""), "consent.by")],
    ids=["no statement", "nobody"],
)
async def test_consent_is_required(kit: Kit, consent: Consent, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await kit.here.add(new_voice(consent=consent), OWNER)
    assert refused.value.field == field
    assert await kit.here.all(OWNER) == []


async def test_consent_is_recorded_with_who_and_when(kit: Kit) -> None:
    kept = await kit.here.add(new_voice(), OWNER)
    assert (kept.consent.by, kept.consent.statement) == ("Ann Example", "I agree that my voice is used in tests.")
    assert kept.consent_at == pytest.approx(kept.created_at)


@pytest.mark.parametrize("name", ["", " ", "7", "voice_1", "a\nb", "x" * 65], ids=repr)
async def test_names_that_cannot_be_told_from_ids_and_speakers_are_refused(kit: Kit, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await kit.here.add(new_voice(name), OWNER)
    assert refused.value.field == "name"
