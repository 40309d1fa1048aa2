"""Compiles the kernels for this machine's processor, once; later processes load what the first one built."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

from serve_app.errors import StartupError

_SOURCE = Path(__file__).parent / "kernels" / "library.cpp"
_PACKAGE = Path(__file__).parents[2]
_FLAGS = (
    "-O3",
    "-std=c++20",
    "-shared",
    "-fPIC",
    "-pthread",
    # Not -ffast-math: infinities are meant, and the order of sums is promised.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    # All functions that take vectors are inlined: how they would be passed does not matter.
    "-Wno-psabi",
)
ARM_FLAGS = ("-fno-schedule-insns",)
"""GCC would load so far ahead that sums are pushed out of their registers; clang ignores it."""
_TIMEOUT_SECONDS = 300


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels. Raises StartupError, with a reason of one line, where they cannot be compiled or loaded."""
    return load(build(native_flags()))


def instruction_set() -> str:
    """What the kernels were compiled for, such as "AVX2, FMA"."""
    kernels = library()
    kernels.csm_instruction_set.restype = ctypes.c_char_p
    return kernels.csm_instruction_set().decode()


def load(path: Path) -> ctypes.CDLL:
    """What `build` made. Raises StartupError where this machine cannot load it."""
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise StartupError(f"the compiled kernels do not load: {error}") from error


def native_flags() -> tuple[str, ...]:
    """Lets the compiler use all that this processor can do."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
    return ("-march=native",) if is_x86 else ("-mcpu=native", *ARM_FLAGS)


def build(machine_flags: tuple[str, ...], folder: Path | None = None, source: Path = _SOURCE) -> Path:
    """The shared library of `source`, compiled unless it is in `folder` (None takes the user's cache) already.

    Several processes may build at once: each writes a file of its own and renames it.
    """
    compiler = _compiler()
    name = f"{_fingerprint(compiler, machine_flags, source)}.so"
    folder = folder or Path(platformdirs.user_cache_dir("csm-serve", appauthor=False)) / "kernels"
    if (folder / name).exists():
        return folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=name, dir=folder)
    except OSError:
        # A cache that cannot be written: compile for this process alone.
        folder = Path(tempfile.mkdtemp(prefix="csm-serve-kernels-"))
        handle, draft = tempfile.mkstemp(prefix=name, dir=folder)
    os.close(handle)
    try:
        _run([*compiler, *_FLAGS, *machine_flags, "-o", draft, str(source)])
        return Path(draft).rename(folder / name)
    finally:
        Path(draft).unlink(missing_ok=True)


def _compiler() -> list[str]:
    # The one variable that is read here: CXX is how every build on a machine is told its compiler.
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named
    for candidate in ("g++", "clang++", "c++"):
        if found := shutil.which(candidate):
            return [found]
    raise StartupError("no C++ compiler was found; install g++ or clang++, or name one in CXX")


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartupError(f"the C++ compiler {command[0]} could not be run: {error}") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        said = errors[0] if errors else f"exit status {done.returncode}"
        raise StartupError(f"the C++ compiler {command[0]} failed: {said}")
    return done.stdout


def _fingerprint(compiler: list[str], machine_flags: tuple[str, ...], source: Path) -> str:
    """Of all that the library depends on: a home folder may be shared by different machines."""
    digest = hashlib.sha256(str(source.relative_to(_PACKAGE)).encode())
    # Other libraries include some of the headers here.
    for file in sorted({*_SOURCE.parent.iterdir(), *source.parent.iterdir()}):
        digest.update(file.name.encode() + file.read_bytes())
    for part in (*compiler, _run([*compiler, "--version"]), *_FLAGS, *machine_flags, platform.platform(), processor()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:20]


def processor() -> str:
    """Its name and what it can do, as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
