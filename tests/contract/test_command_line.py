"""`csm-serve say`, `scene` and `jobs` against a real server."""

import os
import stat
import subprocess
import sys
import wave
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serve_app.cli.main import app
from serve_app.cli.player import open_player
from serve_app.client import Client
from tests.support.contract_server import Server
from tests.support.ray_server import free_port

runner = CliRunner()


def run(server: Server, *argv: str, text: str | None = None) -> Result:
    return runner.invoke(app, [*argv, "--url", server.url], input=text)


def frames(path: Path) -> int:
    with wave.open(str(path)) as file:
        return file.getnframes() // 1920


def test_a_text_is_kept_in_a_file(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    done = run(server, "say", "One two; three @four.", "--voice", "3", "--seed", "9", "--mute", "-o", str(out))
    assert done.exit_code == 0, done.output
    assert frames(out) == 5
    assert "0.40 s, seed 9" in done.output
    asked = server.decoder.requests[-1]
    assert (asked.speaker, asked.sampling.seed) == (3, 9)


def test_standard_input_and_a_voice_by_name(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out.flac"
    done = run(server, "say", "-", "--voice", "onyx", "--mute", "-o", str(out), text="One two.\n")
    assert done.exit_code == 0, done.output
    assert out.read_bytes()[:4] == b"fLaC"
    assert server.decoder.requests[-1].speaker == 1


def test_a_player_gets_the_sound_while_it_is_made(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = tmp_path / "aplay"
    player.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/options\nexec cat > {tmp_path}/heard\n')
    player.chmod(player.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.setattr("serve_app.cli.player.has_device", lambda: True)
    assert run(server, "say", "One two.").exit_code == 0
    assert "-r 24000" in (tmp_path / "options").read_text()
    assert len((tmp_path / "heard").read_bytes().lstrip(b"\0")) > 2 * 3840 - 200


def test_without_a_device_and_a_file_nothing_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.cli.player.has_device", lambda: False)
    num_asked = len(server.decoder.requests)
    assert "give -o FILE" in str(run(server, "say", "One two.").exception)
    assert len(server.decoder.requests) == num_asked


@pytest.mark.parametrize("is_there", [True, False])
def test_a_player_that_cannot_play_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    player = tmp_path / "aplay"
    player.write_text("#!/bin/sh\nexit 1\n")
    player.chmod(player.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path) if is_there else "")
    monkeypatch.setattr("serve_app.cli.player.has_device", lambda: True)
    assert open_player(24_000) is None


def test_a_scene_with_subtitles(server: Server, tmp_path: Path) -> None:
    script, out, srt = tmp_path / "script.txt", tmp_path / "out.wav", tmp_path / "out.srt"
    script.write_text("Ann: One two.\nBen: Three four five.\n")
    done = run(server, "scene", str(script), "--mute", "-o", str(out), "--srt", str(srt))
    assert done.exit_code == 0, done.output
    assert frames(out) == 5
    assert "00:00:00,160 --> 00:00:00,400\nBen: Three four five." in srt.read_text()


def test_jobs_are_listed_shown_and_cancelled(server: Server, tmp_path: Path) -> None:
    server.decoder.go_on.clear()
    with Client(server.url) as client:
        ended = client.wait(client.submit("One two.").id, timeout_seconds=30)
        running = client.submit("One waitforever")
        listed = run(server, "jobs", "list").output.splitlines()
        assert [line.split()[0] for line in listed[:3]] == ["ID", running.id, ended.id]
        shown = run(server, "jobs", "show", ended.id, "-o", str(tmp_path / "job.wav"))
        assert "state    completed" in shown.output and "seconds  0.16" in shown.output
        assert frames(tmp_path / "job.wav") == 2
        assert run(server, "jobs", "cancel", running.id).exit_code == 0
        assert client.wait(running.id, timeout_seconds=30).state == "cancelled"
    server.decoder.go_on.set()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["say", "Hi.", "--mute", "-o", "x.wav"], "no server answers at"),
        (["say", "Hi.", "-o", "x.doc"], "names no format: end it with .wav"),
        (["scene", "/no/such/script"], "cannot be read"),
    ],
    ids=["no server", "no format", "no script"],
)
def test_what_cannot_be_done_is_one_line(argv: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serve_app.cli", *argv]
    if argv[0] == "say":
        command += ["--url", f"http://127.0.0.1:{free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_without_a_server_the_model_speaks_here(tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    done = runner.invoke(app, ["say", "Hello, how are you?", "--local", "--seed", "7", "--mute", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert frames(out) > 10
