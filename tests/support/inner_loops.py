"""What a compiler made of the products' inner loops, read from the disassembly."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from serve_app.model.native import build

KERNELS = Path(build.__file__).parent / "kernels"
_SOURCE = """
#include "product.h"
const csm::MultiplyGroup* kernels(csm::Kind kind) { return csm::kernels_of(kind); }
"""
_FUNCTION = re.compile(r"[0-9a-f]+ <.*multiply_group<csm::(\w+), (\d+)>.*>:")
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(.*)$", re.MULTILINE)
_JUMP = re.compile(r"(?:j\w+|b\.\w+|b|cbn?z|tbn?z)\s+(?:[wx]\d+, )?(?:#\d+, )?(?:0x)?([0-9a-f]+)\b")
_MULTIPLIES = re.compile(r"(?:\{vex\}\s+)?(?:v?fmadd|vdpbf16ps|vpdpwssd|vpmaddwd|vmulps|fmla|smull|bfdot)")
_STACK = re.compile(r"\(%rsp|\[sp")
_VECTOR = re.compile(r"%[xyz]mm\d|\b[qvd]\d+\b")


class Instruction(NamedTuple):
    address: int
    text: str


class InnerLoop(NamedTuple):
    dot: str
    num_rows: int
    """Of inputs."""
    instructions: list[Instruction]

    @property
    def vectors_on_the_stack(self) -> list[str]:
        """Instructions that carry a vector to the stack or back. The address of a row may come from there."""
        return [i.text for i in self.instructions if _STACK.search(i.text) and _VECTOR.search(i.text)]


def compile_products(compiler: list[str], machine_flags: tuple[str, ...], folder: Path) -> Path:
    """An object file of all product kernels."""
    source, made = folder / "products.cpp", folder / "products.o"
    source.write_text(_SOURCE)
    flags = [flag for flag in build._FLAGS if flag != "-shared"]
    subprocess.run([*compiler, *flags, *machine_flags, f"-I{KERNELS}", "-c", str(source), "-o", str(made)], check=True)
    return made


def inner_loops(made: Path, objdump: str = "objdump") -> list[InnerLoop]:
    """The loops that multiply, of each kernel."""
    command = [objdump, "--disassemble", "--demangle", "--no-show-raw-insn", str(made)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    loops = []
    for block in re.split(r"\n\s*\n", text):
        if named := _FUNCTION.match(block.lstrip()):
            instructions = [Instruction(int(address, 16), rest) for address, rest in _LINE.findall(block)]
            for body in _innermost(instructions):
                if any(_MULTIPLIES.match(i.text) for i in body):
                    loops.append(InnerLoop(named[1], int(named[2]), body))
    return loops


def _innermost(instructions: list[Instruction]) -> Iterator[list[Instruction]]:
    """Bodies of backward jumps within which there is no other, and no call: those are a row's rest."""
    begin = instructions[0].address
    spans = []
    for instruction in instructions:
        jump = _JUMP.match(instruction.text)
        if jump and begin <= int(jump[1], 16) <= instruction.address:
            spans.append((int(jump[1], 16), instruction.address))
    for start, end in spans:
        if any((s, e) != (start, end) and start <= s and e <= end for s, e in spans):
            continue
        body = [i for i in instructions if start <= i.address <= end]
        if not any(re.match(r"call|bl\b", i.text) for i in body):
            yield body
