"""The products' inner loops stay in registers: on the stack they would be several times as slow, and still right."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.codec.native.decoder import SOURCE
from serve_app.model.native import build
from tests.support.system_packages import need

# What the library is compiled with decides how wide a vector is.
PROCESSORS = {
    "avx512": ("-march=skylake-avx512", "-mprefer-vector-width=512"),
    "avx2": ("-march=haswell",),
    "sse2": (),
}
LARGEST = {"avx512": (6, 4), "avx2": (3, 4), "sse2": (2, 4)}


def inner_loop(library: Path, num_rows: int, num_vectors: int) -> list[str]:
    """The instructions of the loop that multiplies a tile."""
    shown = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", "-C", str(library)], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(rf"^\w+ <void mimi::multiply_tile<{num_rows}, {num_vectors}>.*?>:\n(.*?)\n\n", shown, re.S | re.M)
    assert found, "the tile is compiled as a function of its own"
    lines = [line.split("\t") for line in found[1].splitlines()]
    places = {address.strip().rstrip(":"): number for number, (address, *_) in enumerate(lines)}
    instructions = [" ".join(rest) for _, *rest in lines]
    loops = []
    for number, instruction in enumerate(instructions):
        target = re.match(r"j\w+\s+(\w+)", instruction)
        if target and places.get(target[1], number) < number:
            loops.append(instructions[places[target[1]] : number + 1])
    return max(loops, key=lambda loop: sum("mul" in i or "fmadd" in i for i in loop))


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_tile_has_its_sums_in_registers(processor: str, tmp_path: Path) -> None:
    need("objdump")
    if not sys.platform.startswith("linux") or build.native_flags() != ("-march=native",):
        pytest.skip("these flags are x86's")
    library = build.build(PROCESSORS[processor], tmp_path, SOURCE)
    num_rows, num_vectors = LARGEST[processor]
    loop = inner_loop(library, num_rows, num_vectors)
    products = [i for i in loop if "mulps" in i or "fmadd" in i]
    assert len(products) == num_rows * num_vectors
    assert not [i for i in loop if re.search(r"%rsp|-0x[0-9a-f]+\(%rbp\)", i)], "nothing goes over the stack"
    # The products, and sums and copies where an instruction cannot do all; weights, inputs, the loop itself.
    assert len(loop) <= (3 if processor == "sse2" else 1) * len(products) + num_vectors + 2 * num_rows + 4
