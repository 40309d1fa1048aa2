"""The examples of docs/api.md, "Voices", are run as they stand."""

import re
import subprocess
from pathlib import Path

import httpx

from tests.support.contract_server import serving
from tests.support.sounds import speech_like

DOCS = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists()) / "docs"


def test_the_examples_of_voices_run(tmp_path: Path) -> None:
    section = (DOCS / "api.md").read_text().partition("\n## Voices\n")[2].partition("\n## ")[0]
    (script,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    (tmp_path / "ann.wav").write_bytes(speech_like(4.0))
    with serving(tmp_path / "data") as server:
        failing = script.replace("curl -s", "curl -sS --fail-with-body")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", failing],
            cwd=tmp_path,
            env={"URL": server.url, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert [voice["name"] for voice in httpx.get(f"{server.url}/voices").json()["voices"]] == ["Ann again"]
    assert (tmp_path / "hello.wav").read_bytes()[:4] == b"RIFF"
    assert (tmp_path / "hello.mp3").stat().st_size > 100
    assert (tmp_path / "scene.wav").stat().st_size > (tmp_path / "hello.wav").stat().st_size / 2
