"""`csm-serve`'s commands, with nothing started."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app import __version__
from serve_app.cli import main
from serve_app.cli.main import app
from serve_app.errors import StartupError
from serve_app.settings import Settings

runner = CliRunner()


class Started:
    def __init__(self) -> None:
        self.calls: list[tuple[Settings, str, int]] = []

    def __call__(self, settings: Settings, host: str, port: int) -> None:
        self.calls.append((settings, host, port))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    server = Started()
    monkeypatch.setattr("serve_app.cli.serving.serve_until_stopped", server)
    module = importlib.import_module("serve_app.cli.main")  # the package has its function by the same name
    monkeypatch.setattr(module, "require_free_port", lambda host, port: None)  # 8000 may be taken
    return server


@pytest.mark.parametrize("argv", [["--help"], ["serve", "--help"], ["checkpoint", "--help"]], ids=str)
def test_help_is_shown(argv: list[str]) -> None:
    result = runner.invoke(app, argv)
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("argv", [["version"], ["--version"]], ids=str)
def test_version_is_the_packages(argv: list[str]) -> None:
    result = runner.invoke(app, argv)
    assert (result.exit_code, result.output) == (0, f"{__version__}\n")


def test_serve_listens_on_this_machine_only_where_it_is_not_told(started: Started) -> None:
    assert runner.invoke(app, ["serve"]).exit_code == 0
    assert started.calls == [(Settings(), "127.0.0.1", 8000)]


def test_serves_flags_become_settings(started: Started) -> None:
    argv = ["serve", "--model", "m", "--port", "9", "--device", "cpu", "--max-batch-size", "2", "--log-level", "DEBUG"]
    assert runner.invoke(app, argv).exit_code == 0
    [(settings, _, port)] = started.calls
    assert (settings.model, settings.device, settings.log_level, port) == ("m", "cpu", "DEBUG", 9)
    assert (settings.engine.max_batch_size, settings.codec.max_streams) == (2, 2)


def test_a_refused_setting_is_a_startup_error_by_name(started: Started) -> None:
    result = runner.invoke(app, ["serve", "--device", "tpu"])
    assert isinstance(result.exception, StartupError)
    assert str(result.exception).startswith("setting device: ")
    assert started.calls == []


def test_a_startup_error_is_one_line_and_a_failure(monkeypatch: pytest.MonkeyPatch, started: Started) -> None:
    monkeypatch.setattr(sys, "argv", ["csm-serve", "serve", "--max-batch-size", "0"])
    with pytest.raises(SystemExit) as stopped:
        main()
    message = stopped.value.code
    assert isinstance(message, str)
    assert message.startswith("csm-serve: setting engine.max_batch_size: ")
    assert "\n" not in message


def test_a_port_that_cannot_be_is_refused(started: Started) -> None:
    assert runner.invoke(app, ["serve", "--port", "70000"]).exit_code == 2
    assert started.calls == []


def test_a_checkpoint_is_created_and_said_to_be_noise(tmp_path: Path) -> None:
    result = runner.invoke(app, ["checkpoint", "create", str(tmp_path / "tiny"), "--preset", "tiny", "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert "random weights: it makes noise, not speech" in result.output
    assert json.loads((tmp_path / "tiny" / "config.json").read_text())["model_type"] == "csm"


def test_a_folder_that_holds_something_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep me")
    result = runner.invoke(app, ["checkpoint", "create", str(tmp_path), "--preset", "tiny"])
    assert isinstance(result.exception, StartupError)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_unknown_preset_is_refused_with_those_there_are(tmp_path: Path) -> None:
    result = runner.invoke(app, ["checkpoint", "create", str(tmp_path / "new"), "--preset", "huge"])
    assert result.exit_code == 2
    assert "tiny" in result.output and "csm-1b" in result.output
