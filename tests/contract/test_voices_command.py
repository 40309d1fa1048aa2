"""`csm-serve voices` against a server over HTTP."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.cli.voices import voices_app
from serve_app.errors import CsmServeError
from tests.support.contract_server import serving
from tests.support.sounds import speech_like


def run(*arguments: str) -> str:
    result = CliRunner().invoke(voices_app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_voice_is_added_shown_auditioned_carried_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, pack = tmp_path / "ann.wav", tmp_path / "ann.csmvoice"
    clip.write_bytes(speech_like(4.0))
    consent = ("--consent", "I agree.", "--consent-by", "Ann Example")
    with serving(tmp_path / "data", needs_keys=True) as server:
        monkeypatch.setenv("CSM_URL", server.url)
        monkeypatch.setenv("CSM_KEY", server.keys.create("mine")[1])
        added = json.loads(
            run("add", "Ann/1", "--clip", str(clip), "--text", "These are the words.", *consent, "--no-audition")
        )
        assert added["consent"]["by"] == "Ann Example"
        assert added["id"] in run("list")
        assert json.loads(run("audition", added["id"]))["audition"]["sentences"]
        assert json.loads(run("show", added["id"]))["transcripts"] == ["These are the words."]
        run("export", added["id"], "-o", str(pack))
        assert json.loads(run("import", str(pack), "--name", "Ann again"))["name"] == "Ann again"
        run("remove", added["id"])
        assert added["id"] not in run("list")
        with pytest.raises(CsmServeError, match="not known"):
            run("show", added["id"])


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CsmServeError, match="is a server running there"):
        run("list", "--url", "http://127.0.0.1:8349")
