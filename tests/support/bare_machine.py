"""Run as a program: rehearses `make bench-gpu` as on a machine without this project's packages.

python bare_machine.py FOLDER
"""

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

MISSING = {
    "av",
    "fastapi",
    "moshi",
    "multipart",
    "platformdirs",
    "pydantic",
    "pydantic_core",
    "pydantic_settings",
    "pytest",
    "ray",
    "sounddevice",
    "soundfile",
    "soxr",
    "sphn",
    "starlette",
    "uvicorn",
}


class _Finder(PathFinder):
    """The usual one, but blind for some packages."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return None if fullname.partition(".")[0] in MISSING else super().find_spec(fullname, path, target)


def main() -> None:
    sys.meta_path[:] = [_Finder if finder is PathFinder else finder for finder in sys.meta_path]
    for name in MISSING & set(sys.modules):
        del sys.modules[name]
    from benchmarks.gpu import __main__ as gpu
    from benchmarks.gpu import sections as gpu_sections

    folder = Path(sys.argv[1])
    for section in gpu_sections.SECTIONS:
        if "moshi" not in section.needs:
            path = folder / f"{section.name}.json"
            importlib.import_module(section.module).main([*section.rehearsal, "--json", str(path)])
    gpu.main(["--dry-run", "--only", "mimi", "--out", str(folder)])
    found = sorted(MISSING & {name.partition(".")[0] for name in sys.modules})
    assert not found, f"imported all the same: {found}"


if __name__ == "__main__":
    main()
