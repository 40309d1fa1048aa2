"""Programs that some tests want: without them a test is skipped, where CI has installed them it must run."""

import os
import shutil

import pytest


def need(*programs: str) -> None:
    """Skip the test, saying why; fail instead for what `CSM_TESTS_REQUIRE` names (comma-separated)."""
    missing = [program for program in programs if shutil.which(program) is None]
    if _required().intersection(missing):
        pytest.fail(f"{missing} are required here and not installed")
    if missing:
        pytest.skip(f"needs the programs {', '.join(missing)}")


def require(program: str, is_fine: bool, otherwise: str) -> None:
    """The same for a program that is there, where what it has to do did not work."""
    if not is_fine and program in _required():
        pytest.fail(otherwise)
    if not is_fine:
        pytest.skip(otherwise)


def _required() -> set[str]:
    return set(os.environ.get("CSM_TESTS_REQUIRE", "").split(","))
