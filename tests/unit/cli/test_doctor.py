"""What the doctor finds, and what it says to do."""

import socket

import pytest
from typer.testing import CliRunner

from serve_app.cli import machine
from serve_app.cli.main import app
from tests.support.ray_server import free_port

runner = CliRunner()


def test_a_machine_that_can_serve_passes() -> None:
    done = runner.invoke(app, ["doctor", "--port", str(free_port())])
    assert done.exit_code == 0, done.output
    assert "demo is there" in done.output


def test_a_taken_port_and_a_missing_model_are_problems_with_remedies() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = runner.invoke(app, ["doctor", "--port", str(port), "--model", "/nowhere"])
    assert done.exit_code == 1
    assert f"'sport = :{port}' names it" in done.output
    assert "PROBLEM  model            /nowhere: no such folder" in done.output


def test_a_long_temporary_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    long = tmp_path_factory.mktemp("x" * 60)
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    finding = machine._temp_folder()
    assert (finding.is_good, finding.remedy) == (False, "set RAY_TMPDIR=/tmp")


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    finding = machine.compiler()
    assert finding.is_good is None and "apt install g++" in finding.remedy


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands(shell: str) -> None:
    asked = {
        "_CSM_SERVE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "csm-serve sa",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "csm-serve sa",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = runner.invoke(app, [], env=asked, prog_name="csm-serve")
    assert "say" in done.output and "serve" not in done.output
