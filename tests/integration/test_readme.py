"""The README's commands, run as written but for the port."""

import os
import re
import subprocess
import wave
from pathlib import Path

import pytest

from tests.listener import Listener
from tests.support.ray_server import free_port
from tests.support.server_process import ROOT, environment, running
from tests.support.system_packages import need
from training.texts import read_lines

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_quickstart(tmp_path: Path) -> None:
    serve, *others = [block for block in BLOCKS if "make serve" in block or "curl" in block]
    assert serve.strip() == "make serve"
    port = str(free_port())  # 8000 may be taken on this machine
    env = environment(tmp_path / "data", PORT=port)
    with running(["make", "serve"], f"http://127.0.0.1:{port}", env):
        for block in others:
            script = block.replace("localhost:8000", f"localhost:{port}")
            subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=os.environ, check=True)
    for name in ("hello.wav", "answer.wav", "scene.wav"):
        with wave.open(str(tmp_path / name)) as file:
            assert file.getnframes() > 12_000, name
    need("espeak-ng")
    said = {"hello.wav": "Hello, how are you?", "answer.wav": "I was born in 1984; I have 3 cats."}
    listener = Listener([*said.values(), *read_lines("sentences.txt")], voice=0)
    assert {name: listener.hears((tmp_path / name).read_bytes()[44:]) for name in said} == said


def test_every_other_command_exists() -> None:
    commands = [line for block in BLOCKS for line in block.splitlines() if line.startswith((".venv/", "make "))]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands:
        words = command.split("#")[0].split()
        if words[0] == "make":
            assert words[1] in targets, command
        else:
            assert (ROOT / words[0]).exists(), command
            assert all((ROOT / word).exists() for word in words[1:] if word.endswith(".yaml")), command
    assert len(commands) >= 6


@pytest.mark.parametrize("page", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda p: p.name)
def test_links_between_the_documents_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
