"""How utterances end, by speaker; and the page of two checkpoints side by side."""

import re

import pytest

from serve_app.errors import StartupError
from serve_app.messages import ModelInfo
from serve_app.settings import Settings
from serve_app.speech.rescue import PieceEnd
from serve_app.verify.check import Status
from serve_app.verify.compare import Side, settings_of
from serve_app.verify.ends import check_ends
from serve_app.verify.listening import Heard
from serve_app.verify.page import page_of
from serve_app.verify.plot import dots
from serve_app.verify.served import Speed
from tests.support.fakes import pcm_of

INFO = ModelInfo("m", "trained", 4, 2048, 2048, "cpu", "float32", 8)
SPEED = Speed("cpu", "float32", "plain", {1: 2.0, 4: 3.5}, 40.0, 1.0, 8)


def heard(speaker: int, end: PieceEnd, pitch: float | None = 0.5, redraws: int = 0, text: str = "A text.") -> Heard:
    score = {
        "score": 0.9, "seconds": 1.0, "pace": 0.9, "silence_seconds": 0.2, "loudness_db": None,
        "pitch_semitones": pitch, "words_heard": None,
    }  # fmt: skip
    return Heard(speaker, text, 0, pcm_of(1, 3), end, redraws, score)


def test_the_report_tells_by_speaker_how_many_end_and_what_the_rescue_did() -> None:
    one = [heard(0, PieceEnd.ITSELF)] * 3 + [heard(0, PieceEnd.RESCUED, redraws=1), heard(0, PieceEnd.CUT, redraws=2)]
    check = check_ends([*one, heard(4, PieceEnd.ITSELF)])
    assert check.status is Status.PASSED
    assert dict(check.rows) == {
        "speaker 0": "3 of 5 utterances end by themselves (60%); of the others 1 cut at their last good frame, "
        "1 rescued; drawn again 3 times",
        "speaker 4": "1 of 1 utterances end by themselves (100%)",
    }
    (first, _) = check.values["speakers"]
    assert (first["share_ended_by_itself"], first["ends"]["rescued"], first["redraws"]) == (0.6, 1, 3)


def test_a_speaker_of_whom_most_run_away_fails() -> None:
    check = check_ends([heard(0, PieceEnd.ITSELF), heard(1, PieceEnd.CUT), heard(1, PieceEnd.RESCUED)])
    assert check.status is Status.FAILED
    assert (check.reason or "").startswith("speaker 1: only 0 of 2 utterances end by themselves")


def test_the_page_holds_figures_plots_and_sound_and_needs_nothing_else() -> None:
    name = "<b>other</b>@int8"
    sides = [
        Side("base", INFO, [heard(0, PieceEnd.ITSELF, 0.0), heard(0, PieceEnd.CUT, 2.0, text="B.")], SPEED),
        Side(name, INFO, [heard(0, PieceEnd.ITSELF, None)], SPEED),
    ]
    page = page_of(sides)
    assert "<b>other" not in page and "&lt;b&gt;other" in page
    assert page.count("<svg") == 4, "score, pace, silence and pitch; nothing was heard of loudness and words"
    assert page.count('src="data:audio/mpeg;base64,') == 3
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "@import" not in page
    assert "2.0 ms (1), 3.5 ms (4)" in page


def test_the_page_tells_sides_apart_whose_long_names_end_alike_and_who_speaks_from_a_clip() -> None:
    names = ("/models/one/a-long-name-of-a-checkpoint", "/models/two/a-long-name-of-a-checkpoint")
    voices = (frozenset({0}), frozenset[int]())
    sides = [
        Side(name, INFO, [heard(0, PieceEnd.ITSELF)], SPEED, voice) for name, voice in zip(names, voices, strict=True)
    ]
    page = page_of(sides)
    assert "A: a-checkpoint" in page and "B: a-checkpoint" in page
    assert page.index("speaker 0: the checkpoint's clip") < page.index("speaker 0: as it was trained, no clip")


def test_a_dot_stands_where_its_value_is() -> None:
    plot = dots("t", [("a", [0.0, 10.0, 20.0]), ("b", [])])
    places = [float(x) for x in re.findall(r'<circle class="side0" cx="([\d.]+)"', plot)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
    assert f'x1="{places[1]:.1f}"' in plot, "the median's line"
    assert dots("t", [("a", [])]) == ""
    assert "<circle" in dots("t", [("a", [1.0])])
    assert ">1<" in dots("t", [("a", [1.0])], most=1.0) and ">1.5<" not in dots("t", [("a", [1.0])], most=1.0)


def test_a_side_names_its_quantization() -> None:
    common = Settings(device="cpu")
    assert settings_of("demo", common).quantization == common.quantization
    side = settings_of("a/b@int8", common)
    assert (side.model, side.quantization, side.device) == ("a/b", "int8", "cpu")
    with pytest.raises(StartupError, match="--compare: int3 in demo@int3 is none of none, int8, int4, fp8"):
        settings_of("demo@int3", common)
