"""Starts the tests in `interpreted/`: a process that imported Triton without its interpreter cannot go back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreted"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="this process runs those tests itself")
def test_kernels_through_tritons_interpreter() -> None:
    pytest.importorskip("triton")
    # The conftest files above import what takes longer than these tests.
    options = ["-q", "-p", "no:cacheprovider", f"--confcutdir={FOLDER}"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(FOLDER)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
