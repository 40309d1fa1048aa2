"""The examples of docs/conversations.md and the first of docs/api.md, run as they stand but for the address."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.demo_server import DemoServer
from tests.support.system_packages import need

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists())
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = [
    *BLOCK.findall((ROOT / "docs" / "conversations.md").read_text()),
    BLOCK.findall((ROOT / "docs" / "api.md").read_text())[0],
]
MADE = [["first.wav", "second.wav"], [], ["one.wav", "one.mp3"], ["hello.wav", "stream.wav"]]
SAID = ["Nice to see you.", "seconds", "equal", "demo voice"]


@pytest.mark.parametrize("number", range(len(MADE)))
def test_it_runs(server: DemoServer, number: int, tmp_path: Path) -> None:
    need("curl")
    assert len(BLOCKS) == len(MADE)
    kind, block = BLOCKS[number]
    host = server.url.removeprefix("http://")
    script = block.replace("curl -s", "curl --fail-with-body -sS").replace("localhost:8000", host)
    shell = ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*(shell if kind == "bash" else [sys.executable, "-c"]), script],
        cwd=tmp_path,
        env=os.environ | {"CSM_URL": server.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in MADE[number]:
        assert (tmp_path / name).stat().st_size > 1000, name
    assert SAID[number] in done.stdout
