"""Kernels are compiled for cards that are not here, and once they are, nothing is left to compile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.engine.steps.precompile import Target, capability_of, targets
from serve_app.errors import StartupError

pytest.importorskip("triton.backends.nvidia")


def compiled(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """In processes of their own: Triton keeps what it has compiled, and whether it interprets."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"TRITON_CACHE_DIR": str(folder), "CSM_ENGINE__MAX_BATCH_SIZE": "1", "CSM_ENGINE__MAX_POSITIONS": "256"}
    command = [sys.executable, "-m", "serve_app.cli", "kernels", "compile", "--preset", "tiny", "--jobs", "1", *more]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)


def kernels_in(folder: Path) -> dict[str, float]:
    return {str(path.relative_to(folder)): path.stat().st_mtime for path in folder.rglob("*.cubin")}


@pytest.mark.slow
def test_a_second_time_everything_is_there(tmp_path: Path) -> None:
    assert compiled(tmp_path, "--arch", "sm_90").returncode == 0
    hopper = kernels_in(tmp_path)
    names = {Path(path).stem for path in hopper}
    assert names >= {"_product", "_normed_qkv", "_draw", "_attend", "_attend_to_prompts", "_add_parts", "_advance"}
    assert compiled(tmp_path, "--arch", "sm_90,sm_80").returncode == 0
    both = kernels_in(tmp_path)
    assert hopper.items() <= both.items(), "what is there is not compiled again"
    assert len(both) == 2 * len(hopper), "Ampere has the same kernels"


def test_every_bucket_and_the_check_at_start_are_compiled() -> None:
    assert list(targets([90], ["none"], 3)) == [Target(90, "none", rows) for rows in (3, 2, 1, 0)]


def test_cards_without_fp8_are_left_out_of_it() -> None:
    assert {target.capability for target in targets([80, 86, 89, 90], ["fp8"], 1)} == {89, 90}


def test_only_hopper_and_later_cards_launch_kernels_as_dependent() -> None:
    assert {(each.capability, each.dependent) for each in targets([80, 89, 90], ["none"], 1, dependent=True)} == {
        (80, False),
        (89, False),
        (90, True),
    }


@pytest.mark.parametrize("arch", ["sm_75", "hopper", "90"])
def test_a_card_without_our_kernels_is_refused(arch: str) -> None:
    with pytest.raises(StartupError, match=f"--arch {arch}: give sm_80"):
        capability_of(arch)
