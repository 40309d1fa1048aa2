"""Every program in examples/ and every Python block in docs/client.md, run as it stands but for the address."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.contract_server import Server
from tests.support.system_packages import need

ROOT = Path(__file__).parents[2]
MADE = {
    "speak.sh": ["hello.wav", "hello.pcm"],
    "scene.py": ["hello.wav", "scene.wav"],
    "stream.mjs": ["stream.pcm"],
    "openai_speech.py": ["hello.mp3"],
    "fal_job.py": ["scene.wav"],
    "voice_agent.py": ["agent.pcm"],
}
PROGRAMS = {".sh": "sh", ".py": sys.executable, ".mjs": "node"}
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL | re.MULTILINE)


def run(command: list[str], server: Server, folder: Path, text: str = "") -> str:
    server.decoder.go_on.set()
    env = os.environ | {"CSM_URL": server.url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", MADE)
def test_an_example_runs_as_it_stands(name: str, server: Server, tmp_path: Path) -> None:
    need("node", "curl")
    path = ROOT / "examples" / name
    said = run([PROGRAMS[path.suffix], str(path)], server, tmp_path, "Hello.\n\n")
    for made in MADE[name]:
        assert (tmp_path / made).stat().st_size > 1000, made
    if name == "voice_agent.py":
        assert "remembered 1" in said


def test_each_example_is_tested() -> None:
    assert set(MADE) == {path.name for path in (ROOT / "examples").iterdir() if path.is_file()}


def test_the_agent_stops_when_it_is_spoken_to(server: Server, tmp_path: Path) -> None:
    agent = [sys.executable, str(ROOT / "examples" / "voice_agent.py")]
    env = os.environ | {"CSM_URL": server.url, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(agent, cwd=tmp_path, env=env, text=True, stdin=-1, stdout=-1) as process:
        assert process.stdin and process.stdout
        server.decoder.go_on.clear()
        process.stdin.write("waitforever\nHello.\n\n")
        process.stdin.flush()
        said = process.stdout.read()
    server.decoder.go_on.set()
    assert "(interrupted)" in said and "remembered 1" in said


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {number}" for number in range(len(BLOCKS))])
def test_the_pages_python_runs(block: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "hello.wav").unlink(missing_ok=True)
    run([sys.executable, "-c", block.replace("http://localhost:8000", server.url)], server, tmp_path)
