"""Where settings come from, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.settings import Settings


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import os

    for name in [name for name in os.environ if name.startswith("CSM_")]:
        monkeypatch.delenv(name)
    yield


def refused(**args: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as error:
        Settings(**args)
    first = error.value.errors()[0]
    return ".".join(map(str, first["loc"])), first["type"]


def test_the_defaults_serve_the_demo() -> None:
    settings = Settings()
    assert (settings.model, settings.device, settings.engine.max_batch_size) == ("demo", "auto", 8)


def test_the_environment_overrides_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_MODEL", "sesame/csm-1b")
    monkeypatch.setenv("CSM_DATA_DIR", "/data")
    settings = Settings()
    assert (settings.model, settings.data_dir) == ("sesame/csm-1b", Path("/data"))


def test_a_setting_of_a_section_has_its_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_ENGINE__MAX_BATCH_SIZE", "3")
    engine = Settings().engine
    assert (engine.max_batch_size, engine.max_waiting) == (3, 32)


def test_a_whole_section_may_come_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_ENGINE", '{"max_batch_size": 4, "max_waiting": 5}')
    engine = Settings().engine
    assert (engine.max_batch_size, engine.max_waiting) == (4, 5)


def test_arguments_override_the_environment_setting_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_MODEL", "from-environment")
    monkeypatch.setenv("CSM_ENGINE__MAX_BATCH_SIZE", "3")
    monkeypatch.setenv("CSM_ENGINE__MAX_WAITING", "7")
    settings = Settings(**{"model": "from-args", "engine": {"max_batch_size": 5}})
    assert (settings.model, settings.engine.max_batch_size, settings.engine.max_waiting) == ("from-args", 5, 7)


@pytest.mark.parametrize("args", [{"modle": "demo"}, {"engine": {"max_batchsize": 3}}], ids=str)
def test_an_unknown_key_is_refused_by_name(args: dict[str, Any]) -> None:
    name, kind = refused(**args)
    assert name in ("modle", "engine.max_batchsize")
    assert kind == "extra_forbidden"


def test_an_unknown_variable_of_a_section_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_ENGINE__MAX_BATCHSIZE", "3")
    assert refused() == ("engine.max_batchsize", "extra_forbidden")


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("engine", "max_batch_size", 0),
        ("engine", "max_positions", 4096),
        ("engine", "max_wait_seconds", 0),
        ("engine", "memory_fraction", 0),
        ("codec", "max_streams", 0),
        ("codec", "memory_fraction", 1.1),
        ("limits", "max_audio_seconds", 14_401),
        ("limits", "max_body_bytes", 10),
        ("sampling", "temperature", 0),
        ("sampling", "top_p", 1.5),
        ("sampling", "repetition_penalty", 0.5),
        ("sampling", "top_k", "many"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(section: str, name: str, value: Any) -> None:
    assert refused(**{section: {name: value}})[0] == f"{section}.{name}"


@pytest.mark.parametrize(("name", "value"), [("device", "tpu"), ("dtype", "int8"), ("log_level", "LOUD")])
def test_a_word_that_is_not_known_is_refused_by_name(name: str, value: str) -> None:
    assert refused(**{name: value})[0] == name


def test_settings_do_not_change_once_made() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.model = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.engine.max_batch_size = 1  # type: ignore[misc]
