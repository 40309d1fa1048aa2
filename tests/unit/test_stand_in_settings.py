"""The stand-in is asked for twice or not at all."""

from typing import Any

import pytest

from serve_app.errors import StartupError
from serve_app.settings import load_settings


def test_there_is_no_stand_in_by_default() -> None:
    assert load_settings({}).stand_in is None


def test_the_model_alone_is_refused_and_both_settings_are_named() -> None:
    with pytest.raises(StartupError, match=r"model is stand-in.* section stand_in is not set"):
        load_settings({"model": "stand-in"})


@pytest.mark.parametrize("args", [{}, {"model": "demo"}, {"model": "sesame/csm-1b"}], ids=str)
def test_the_section_alone_is_refused_and_both_settings_are_named(args: dict[str, Any]) -> None:
    with pytest.raises(StartupError, match=r"section stand_in is set, but model is (demo|sesame/csm-1b)"):
        load_settings(args | {"stand_in": {}})


def test_a_variable_alone_does_not_bring_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_STAND_IN__FRAMES", "5")
    with pytest.raises(StartupError, match="model is demo"):
        load_settings({})


def test_both_together_from_a_run_config() -> None:
    table = {"1": 10, "8": 20}  # YAML and JSON give numbers or strings
    settings = load_settings({"model": "stand-in", "stand_in": {"step_ms_by_batch": table}})
    assert settings.stand_in is not None
    assert settings.stand_in.step_ms_by_batch == {1: 10.0, 8: 20.0}


def test_both_together_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_STAND_IN__STEP_MS_BY_BATCH", '{"1": 80}')
    monkeypatch.setenv("CSM_STAND_IN__FRAMES", "25")
    stand_in = load_settings({"model": "stand-in"}).stand_in
    assert stand_in is not None
    assert (stand_in.step_ms_by_batch, stand_in.frames, stand_in.num_codebooks) == ({1: 80.0}, 25, 32)


def test_an_empty_section_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_STAND_IN", "{}")
    assert load_settings({"model": "stand-in"}).stand_in is not None


@pytest.mark.parametrize(
    "section",
    [
        {"step_ms_by_batch": {0: 10}},
        {"step_ms_by_batch": {1: -1}},
        {"frames": 0},
        {"decode_ms_per_tick": -1},
        {"num_codebooks": 1},
        {"step_ms": 10},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(section: dict[str, Any]) -> None:
    with pytest.raises(StartupError, match=rf"setting stand_in\.{next(iter(section))}"):
        load_settings({"model": "stand-in", "stand_in": section})
