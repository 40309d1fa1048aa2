"""Sums stay in registers while a matrix is read, on every instruction set and with every compiler."""

import platform
import shutil
from pathlib import Path

import pytest

from serve_app.model.native.build import ARM_FLAGS
from tests.support.inner_loops import compile_products, inner_loops

X86 = ("haswell", "znver3", "alderlake", "skylake-avx512", "icelake-server", "sapphirerapids")
ARM = ("armv8-a", "armv8.2-a+dotprod", "armv8.6-a+bf16+i8mm")
DOTS = {"FloatDot", "BfloatDot", "Int8Dot", "Int4Dot"}


def check(compiler: list[str], flags: tuple[str, ...], folder: Path, objdump: str = "objdump") -> None:
    loops = inner_loops(compile_products(compiler, flags, folder), objdump)
    assert {loop.dot for loop in loops} == DOTS
    assert {loop.num_rows for loop in loops} >= {1, 2}, "each number of rows has its kernel"
    spilled = {(loop.dot, loop.num_rows): loop.vectors_on_the_stack for loop in loops if loop.vectors_on_the_stack}
    assert not spilled


def need_tool(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def need_x86() -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("these flags are x86's")


def test_sums_stay_in_registers_on_avx2(tmp_path: Path) -> None:
    need_x86()
    need_tool("objdump")
    check([need_tool("g++")], ("-march=haswell",), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("march", X86)
@pytest.mark.parametrize("compiler", ["g++", "g++-14", "clang++", "clang++-19"])
def test_sums_stay_in_registers_on_x86(compiler: str, march: str, tmp_path: Path) -> None:
    need_x86()
    check([need_tool(compiler)], (f"-march={march}",), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("march", ARM)
@pytest.mark.parametrize("compiler", ["aarch64-linux-gnu-g++", "clang++", "clang++-19"])
def test_sums_stay_in_registers_on_arm(compiler: str, march: str, tmp_path: Path) -> None:
    # The cross compiler brings the headers that clang needs too.
    need_tool("aarch64-linux-gnu-g++")
    command = [need_tool(compiler), *(["--target=aarch64-linux-gnu"] if "clang" in compiler else [])]
    check(command, (f"-march={march}", *ARM_FLAGS), tmp_path, need_tool("aarch64-linux-gnu-objdump"))


def test_a_sum_on_the_stack_is_found(tmp_path: Path) -> None:
    """Without optimisation everything is there."""
    need_x86()
    need_tool("objdump")
    loops = inner_loops(compile_products([need_tool("g++")], ("-march=haswell", "-O1", "-fno-tree-sra"), tmp_path))
    assert any(loop.vectors_on_the_stack for loop in loops)
