"""The checks that every dialect shares."""

from typing import Any

import pytest

from serve_app.errors import InvalidRequest
from serve_app.messages import MAX_SEED
from serve_app.settings import LimitSettings, Settings
from serve_app.speech.build import Asked, AskedClip, build_scene, check_text
from serve_app.speech.scene import InlineAudio, Scene, Turn, UrlAudio
from tests.support.fakes import INFO

SETTINGS = Settings(limits=LimitSettings(max_audio_seconds=30))
HELLO = (Turn("Hello.", 0),)
NAN = float("nan")
INFINITY = float("inf")


def build(turns: tuple[Turn, ...] = HELLO, **given: Any) -> Scene:
    return build_scene(Asked(turns, **given), INFO, SETTINGS)


def refused_field(turns: tuple[Turn, ...] = HELLO, **given: Any) -> str:
    with pytest.raises(InvalidRequest) as refused:
        build(turns, **given)
    return refused.value.field


@pytest.mark.parametrize("text", ["", " ", "\t\r\n", "\u00a0", "\u3000\u2003", "\x1c\x85\u2028"], ids=ascii)
def test_text_without_anything_to_speak_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is empty: send something to speak") as refused:
        check_text("turns[1].text", text, 10)
    assert refused.value.field == "turns[1].text"


def test_text_is_allowed_up_to_the_limit() -> None:
    assert check_text("text", "a" * 10, 10) == "a" * 10
    with pytest.raises(InvalidRequest, match="has 11 characters, at most 10 are allowed: send it in several requests"):
        check_text("text", "a" * 11, 10)


@pytest.mark.parametrize(
    "text",
    ["a|b", "<|AUDIO|>", "[0] hi", "👩‍👩‍👧 hi", "bell \x07 nul \x00 end", "שלום עולם", "\ufeffbom", " spaced "],
    ids=ascii,
)
def test_unusual_text_is_spoken_as_it_is(text: str) -> None:
    assert check_text("text", text, 100) == text


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff", "\ude00\ud83d"], ids=ascii)
def test_half_a_surrogate_pair_becomes_a_character_that_can_be_encoded(text: str) -> None:
    assert "\ufffd" in check_text("text", text, 10).encode().decode()


def test_two_halves_of_a_pair_become_the_character_they_mean() -> None:
    assert check_text("text", "\ud83d\ude00", 10) == "😀"


@pytest.mark.parametrize("speaker", [0, 1, 999])
def test_speakers_are_small_numbers(speaker: int) -> None:
    assert build((Turn("Hello.", speaker),)).turns[0].speaker == speaker


@pytest.mark.parametrize("speaker", [-1, 1000, 10**30])
def test_other_speakers_are_refused(speaker: int) -> None:
    assert refused_field((*HELLO, Turn("Hi.", speaker))) == "turns[1].speaker"
    assert refused_field(context=(AskedClip("Before.", speaker, "AAAA"),)) == "context[0].speaker"


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": 0.01},
        {"temperature": 5.0},
        {"top_k": 1},
        {"top_k": 2048},
        {"top_p": 0.01},
        {"top_p": 1.0},
        {"repetition_penalty": 1.0},
        {"repetition_penalty": 2.0},
    ],
    ids=str,
)
def test_sampling_is_taken_up_to_its_bounds(given: dict[str, float]) -> None:
    sampling = build(sampling=given).sampling
    assert {name: getattr(sampling, name) for name in given} == given


@pytest.mark.parametrize("seed", [0, MAX_SEED, None])
def test_a_seed_is_taken_up_to_its_bound(seed: int | None) -> None:
    assert build(seed=seed).seed == seed


@pytest.mark.parametrize("seed", [-2, MAX_SEED + 1])
def test_a_seed_out_of_bounds_is_refused(seed: int) -> None:
    assert refused_field(seed=seed) == "seed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.5),
        ("temperature", 5.1),
        ("temperature", NAN),
        ("temperature", INFINITY),
        ("top_k", -2),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", NAN),
        ("repetition_penalty", -0.9),
        ("repetition_penalty", 2.1),
        ("repetition_penalty", NAN),
    ],
)
def test_sampling_out_of_bounds_is_refused_by_name(field: str, value: float) -> None:
    assert refused_field(sampling={field: value}) == field


@pytest.mark.parametrize("seconds", [0.001, 1, 30.0])
def test_the_longest_answer_may_be_asked_for(seconds: float) -> None:
    assert build(max_audio_seconds=seconds).max_audio_seconds == seconds


@pytest.mark.parametrize("seconds", [0, -1, NAN])
def test_other_lengths_are_refused_with_the_longest(seconds: float) -> None:
    with pytest.raises(InvalidRequest, match="above 0 and at most 30") as refused:
        build(max_audio_seconds=seconds)
    assert refused.value.field == "max_audio_seconds"


def test_context_audio_is_base64_a_data_uri_or_a_url() -> None:
    sent = ("AAEC", "data:audio/wav;base64,AAEC", "https://example.com/a.wav", "HTTP://example.com/a.wav")
    scene = build(context=[AskedClip("Before.", 0, audio) for audio in sent])
    inline = InlineAudio(b"\0\1\2")
    assert [item.audio for item in scene.context] == [inline, inline, UrlAudio(sent[2]), UrlAudio(sent[3])]


def test_faults_of_context_are_named_by_clip_and_part() -> None:
    good = AskedClip("Before.", 0, "AAEC")
    assert refused_field(context=(good, AskedClip("Before.", 0, "no base64!"))) == "context[1].audio"
    assert refused_field(context=(AskedClip(" ", 0, "AAEC"),)) == "context[0].text"
    assert refused_field(context=(good,) * 17) == "context"


def test_a_scene_has_at_least_one_turn_and_no_more_than_the_limit() -> None:
    assert refused_field(()) == refused_field(HELLO * 33) == "turns"
    assert len(build(HELLO * 32).turns) == 32
