"""Real clients of voice agents against both dialects: ElevenLabs' SDK, LiveKit's plugins, Pipecat's services, and
Home Assistant's wyoming_openai."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_fal_tls import certificates
from tests.support.contract_server import Server, serving
from tests.support.system_packages import require

AGENTS = Path(__file__).parent / "agents"
ROOT = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists())
SENTENCES = "One two three four five. Six seven eight nine ten."
WYOMING = "wyoming-openai==0.8.0"
SECONDS = 1.2
"""A frame for each of ten words, and a pause of five frames."""
PADDING = 0.1
"""Of an MP3, and of LiveKit's own framing."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="session")
def python() -> Path:
    """Of an environment with these clients, which is made once and kept under build/."""
    return environment("agents", "3.11", "-r", str(AGENTS / "requirements.txt"))


@pytest.fixture(scope="session")
def newer_python() -> Path:
    """Of an environment with wyoming_openai, which wants a newer Python than the server."""
    own = sorted(map(str, Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python")))  # uv itself looks only in PATH
    return environment("wyoming", own[-1] if own else ">=3.12", WYOMING)


def environment(name: str, version: str, *wanted: str) -> Path:
    uv = shutil.which("uv") or str(ROOT / ".venv" / "bootstrap" / "bin" / "uv")
    require("uv", Path(uv).exists(), "needs uv, to install the clients")
    folder = ROOT / "build" / name
    making = (uv, "venv", "-q", "--allow-existing", "--no-python-downloads", "--python", version, folder)
    made = subprocess.run(making, capture_output=True, text=True)
    require("python", made.returncode == 0, f"needs Python {version}: {made.stderr.strip().splitlines()[-1:]}")
    install = (uv, "pip", "install", "-q", "--python", folder / "bin" / "python", *wanted)
    done = subprocess.run(install, capture_output=True, text=True, timeout=600)
    require("uv", done.returncode == 0, f"the clients cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return folder / "bin" / "python"


def told(python: Path, script: str, url: str, **environment: str) -> dict[str, dict[str, Any]]:
    """What the script prints, by its way of speaking."""
    command = (python, AGENTS / script, url)
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return {line["way"]: line for line in map(json.loads, done.stdout.splitlines())}


def test_elevenlabs_own_sdk(python: Path, tmp_path: Path) -> None:
    ca, certificate, key = certificates(tmp_path)
    with serving(tmp_path / "data", ssl={"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}) as server:
        found = told(python, "elevenlabs_sdk.py", f"https://{server.host}", SSL_CERT_FILE=str(ca))
    for way in ("convert", "stream", "times", "streamed times", "realtime"):
        assert found[way]["seconds"] == pytest.approx(SECONDS), way
    assert found["times"]["text"] == found["streamed times"]["text"] == SENTENCES
    assert "Rachel" in found["voices"]["names"]
    assert found["search"]["names"] == ["George"]
    assert found["models"]["names"] == ["fake"]
    assert found["user"]["status"] == "active"
    assert (found["no such voice"]["status"], found["no such voice"]["word"]) == (404, "voice_not_found")
    assert (found["no text"]["status"], found["no text"]["word"]) == (422, "invalid_request")
    refused = found["no such voice in realtime"]
    assert refused["code"] == 1008 and "no voice has this id" in refused["reason"]


def test_the_sdks_example_in_the_docs_works(python: Path, server: Server, tmp_path: Path) -> None:
    example = (ROOT / "docs/api/elevenlabs.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert "http://localhost:8000" in example
    command = (python, "-c", example.replace("http://localhost:8000", server.url))
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    assert (tmp_path / "hello.mp3").stat().st_size > 1000


def test_livekits_plugins(python: Path, server: Server) -> None:
    server.decoder.go_on.clear()  # other tests of this server have set it
    found = told(python, "livekit_speech.py", server.url)
    server.decoder.go_on.set()
    for way in (
        "elevenlabs",
        "elevenlabs by sentence",
        "elevenlabs by word",
        "after a barge-in",
        "openai gpt-4o-mini-tts",
    ):
        assert found[way]["seconds"] == pytest.approx(SECONDS, abs=PADDING), way
    for way in ("elevenlabs by sentence", "elevenlabs by word", "elevenlabs pcm", "after a barge-in"):
        assert found[way]["text"].strip() == SENTENCES
        assert found[way]["ends"] == sorted(found[way]["ends"])
        assert found[way]["ends"][-1] == pytest.approx(SECONDS)
    assert found["voices"]["number"] > 2


def test_pipecats_services(python: Path, server: Server) -> None:
    server.decoder.go_on.clear()  # other tests of this server have set it
    found = told(python, "pipecat_speech.py", server.url)
    server.decoder.go_on.set()
    assert len(found) == 5
    for way, heard in found.items():
        assert not heard["errors"], way
        assert heard["words"] == SENTENCES, way
        # Five words of what the barge-in broke off were heard too.
        assert heard["seconds"] == pytest.approx(SECONDS + (0.4 if "barge-in" in way else 0)), way


def test_home_assistants_wyoming_openai(newer_python: Path, server: Server) -> None:
    found = told(newer_python, "wyoming_speech.py", server.url)
    assert found["openai"]["voices"] == ["alloy", "echo"]
    assert {"0", "1", "alloy", "verse"} <= set(found["kokoro"]["voices"])
    for heard in found.values():
        assert (heard["rate"], heard["seconds"]) == (24_000, pytest.approx(SECONDS))
