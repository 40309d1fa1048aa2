"""Help and wrong options import neither Ray nor torch, which take seconds."""

import json
import subprocess
import sys

import pytest

HEAVY = {"ray", "torch", "transformers", "moshi", "numpy", "sqlalchemy", "fastapi", "httpx", "aiohttp"}
_RUN = """
import json, sys
from serve_app.cli import main
sys.argv = ["csm-serve", *sys.argv[1:]]
try:
    main()
finally:
    print("\\n" + json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["serve", "--help"],
        ["verify", "--help"],
        ["check"],
        ["replay", "--help"],
        ["serve", "--prot", "1"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(argv: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", _RUN, *argv], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == (0 if argv[-1].startswith("--") else 2), done.stderr
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert "typer" in imported
    assert not imported & HEAVY
