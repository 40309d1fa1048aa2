"""The checks that every dialect shares."""

from dataclasses import replace

import pytest

from serve_app.errors import InvalidRequest
from serve_app.messages import MAX_SEED, SamplingParams
from serve_app.settings import LimitSettings
from serve_app.speech.request import check_max_audio_seconds, check_sampling, check_speaker, check_text

NAN = float("nan")
INFINITY = float("inf")


@pytest.mark.parametrize("text", ["", " ", "\t\r\n", "\u00a0", "\u3000\u2003", "\x1c\x85\u2028"], ids=ascii)
def test_text_without_anything_to_speak_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is empty: send something to speak") as refused:
        check_text("scene.1.text", text, 10)
    assert refused.value.field == "scene.1.text"


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
    assert check_speaker("speaker", speaker) == speaker


@pytest.mark.parametrize("speaker", [-1, 1000, 10**30])
def test_other_speakers_are_refused(speaker: int) -> None:
    with pytest.raises(InvalidRequest, match="must be an integer from 0 to 999") as refused:
        check_speaker("scene.0.speaker", speaker)
    assert refused.value.field == "scene.0.speaker"


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
        {"seed": 0},
        {"seed": MAX_SEED},
    ],
    ids=str,
)
def test_sampling_is_taken_up_to_its_bounds(given: dict[str, float]) -> None:
    params = replace(SamplingParams(), **given)
    assert check_sampling(params, 2048) == params


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.0),
        ("temperature", -0.5),
        ("temperature", 5.1),
        ("temperature", NAN),
        ("temperature", INFINITY),
        ("top_k", 0),
        ("top_k", -1),
        ("top_k", 2049),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", NAN),
        ("repetition_penalty", 0.9),
        ("repetition_penalty", 2.1),
        ("repetition_penalty", NAN),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
    ],
)
def test_sampling_out_of_bounds_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match="must be") as refused:
        check_sampling(replace(SamplingParams(), **{field: value}), 2048)
    assert refused.value.field == field


@pytest.mark.parametrize("seconds", [0.001, 1, 30.0])
def test_the_longest_answer_may_be_asked_for(seconds: float) -> None:
    assert check_max_audio_seconds(seconds, LimitSettings(max_audio_seconds=30)) == seconds


@pytest.mark.parametrize("seconds", [0, -1, 30.01, NAN, INFINITY])
def test_other_lengths_are_refused_with_the_longest(seconds: float) -> None:
    with pytest.raises(InvalidRequest, match="above 0 and at most 30") as refused:
        check_max_audio_seconds(seconds, LimitSettings(max_audio_seconds=30))
    assert refused.value.field == "max_audio_seconds"
