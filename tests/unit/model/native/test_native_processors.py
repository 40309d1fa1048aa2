"""Products are the same numbers on every instruction set: sums have one order, however wide the vectors are."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from serve_app.model.native import build
from serve_app.model.native.build import ARM_FLAGS
from tests.support.inner_loops import KERNELS

_SOURCE = Path(__file__).parent / "products.cpp"
_CROSS = "aarch64-linux-gnu-g++"


def products(compiler: str, flags: tuple[str, ...], folder: Path, emulator: tuple[str, ...] = ()) -> dict[str, float]:
    """By kind, number of rows, row and place; of ranks and changes by kind, token and row."""
    made = folder / f"products{'-'.join(flags)}"
    plain = [flag for flag in build._FLAGS if flag not in ("-shared", "-O3")]
    subprocess.run([compiler, *plain, "-O1", *flags, f"-I{KERNELS}", str(_SOURCE), "-o", str(made)], check=True)
    lines = subprocess.run([*emulator, str(made)], check=True, capture_output=True, text=True).stdout.splitlines()
    parts = [line.rpartition(" ") for line in lines]
    return {key: float.fromhex(value) for key, _, value in parts}


def check_same(found: dict[str, float], expected: dict[str, float], bf16_is_exact: bool) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # Instructions for bfloat16 round in a way of their own.
        exact = bf16_is_exact or not key.startswith("1 ")
        near = 0.01 if "rank" in key else 1e-3  # ranks are bfloat16 themselves
        assert found[key] == (value if exact else pytest.approx(value, rel=near, abs=near)), key


def need_x86() -> None:
    if platform.machine() not in ("x86_64", "AMD64") or not Path("/proc/cpuinfo").exists():
        pytest.skip("these flags are x86's")


def test_avx2_and_this_processor_compute_the_same_numbers(tmp_path: Path) -> None:
    need_x86()
    if " fma " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no FMA")
    native = products("g++", build.native_flags(), tmp_path)
    assert len(native) == 4 * 43 * sum(range(1, 10)) + 2 * (5 * 16 + 7 * 40)
    check_same(products("g++", ("-march=haswell",), tmp_path), native, bf16_is_exact=False)


@pytest.mark.slow
@pytest.mark.parametrize("march", ["armv8-a", "armv8.2-a+dotprod", "armv8.6-a+bf16+i8mm"])
def test_arm_computes_the_same_numbers(march: str, tmp_path: Path) -> None:
    need_x86()
    emulator = shutil.which("qemu-aarch64")
    if not shutil.which(_CROSS) or not emulator:
        pytest.skip(f"{_CROSS} and qemu-aarch64 are not installed (g++-aarch64-linux-gnu, qemu-user)")
    flags = (f"-march={march}", "-static", *ARM_FLAGS)
    found = products(_CROSS, flags, tmp_path, (emulator, "-cpu", "max"))
    expected = products("g++", ("-march=haswell",), tmp_path)
    check_same(found, expected, bf16_is_exact="bf16" not in march)
