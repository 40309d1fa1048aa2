"""Programs that some tests want: without them a test is skipped, where CI has installed them it must run."""

import os
import shutil

import pytest


def need(*programs: str) -> None:
    """Skip the test, saying why; fail instead for what `CSM_TESTS_REQUIRE` names (comma-separated)."""
    missing = [program for program in programs if shutil.which(program) is None]
    required = set(os.environ.get("CSM_TESTS_REQUIRE", "").split(","))
    if required.intersection(missing):
        pytest.fail(f"{missing} are required here and not installed")
    if missing:
        pytest.skip(f"needs the programs {', '.join(missing)}")
