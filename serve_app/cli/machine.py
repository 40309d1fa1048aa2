"""What is asked of a machine that serves. No check imports torch or Ray here, so all of them take a second."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from serve_app.cli.listening import require_free_port
from serve_app.cli.start_errors import require_data_folder
from serve_app.errors import CsmServeError, StartupError
from serve_app.settings import Settings, load_settings

_PYTHONS = ((3, 11), (3, 13))
_PACKAGES = ("torch", "ray", "transformers", "moshi", "fastapi")
_COMPILERS = ("g++", "clang++", "c++")
_LEAST_FREE_BYTES = 2 * 2**30
_LEAST_MEMORY_BYTES = 4 * 2**30
_LEAST_SHARED_BYTES = 256 * 2**20
_LONGEST_TEMP_PATH = 40
"""Ray's sockets lie about 65 characters below it, and a socket's path may have 107."""
_NVIDIA = Path("/dev/nvidia0")
_SHARED = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Finding:
    """`is_good`: None is a note, which keeps no server from starting."""

    about: str
    found: str
    is_good: bool | None = True
    remedy: str = ""


def findings(model: str, port: int) -> Iterator[Finding]:
    yield _python()
    yield from _packages()
    yield compiler()
    yield _port(port)
    yield _card()
    yield _memory()
    settings = _settings(model)
    if isinstance(settings, Finding):
        yield settings
        return
    yield _model(settings)
    yield _data_folder(settings.data_dir)
    yield _temp_folder()
    yield _shared_memory()


def _python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    is_good = _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]
    return Finding("Python", found, is_good, "" if is_good else "use Python 3.11 to 3.13")


def _packages() -> Iterator[Finding]:
    for name in _PACKAGES:
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "is not installed", False, "run make install")


def compiler() -> Finding:
    """The one that the native step and codec are built with."""
    names = (os.environ.get("CXX", ""), *_COMPILERS)
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is not None:
        return Finding("C++ compiler", found)
    remedy = "install g++ (Debian: apt install g++); without it speech on a CPU takes several times as long"
    return Finding("C++ compiler", "none", None, remedy)


def _port(port: int) -> Finding:
    try:
        require_free_port("127.0.0.1", port)
    except StartupError as error:
        return Finding("port", str(error), False, f"stop what listens there (ss -ltnp 'sport = :{port}' names it)")
    return Finding("port", f"{port} is free")


def _card() -> Finding:
    built_for_cpu = "+cpu" in _version("torch")
    if not _NVIDIA.exists():
        remedy = "" if shutil.which("nvidia-smi") is None else "nvidia-smi is there: is the driver loaded?"
        return Finding("GPU", "no NVIDIA card; models run on the CPU", None, remedy)
    if built_for_cpu:
        return Finding("GPU", "a card, but torch is built for CPUs", False, "rm -rf .venv && make install BACKEND=auto")
    return Finding("GPU", "an NVIDIA card")


def _memory() -> Finding:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found, cores = f"{free / 2**30:.1f} GB free", len(os.sched_getaffinity(0))
    is_good = free >= _LEAST_MEMORY_BYTES or None
    return Finding("memory", f"{found}, {cores} cores", is_good, "" if is_good else "an idle server takes 2 to 3 GB")


def _settings(model: str) -> Settings | Finding:
    try:
        return load_settings({"model": model})
    except StartupError as error:
        return Finding("settings", str(error), False, "docs/configure.md lists the settings")


def _model(settings: Settings) -> Finding:
    """Of a repository only small files are fetched."""
    from serve_app.model.apart import check_reachable

    try:
        check_reachable(settings.model, settings.revision, settings.base)
    except CsmServeError as error:
        return Finding("model", str(error), False)
    return Finding("model", f"{settings.model} is there")


def _data_folder(folder: Path) -> Finding:
    try:
        require_data_folder(folder)
    except StartupError as error:
        return Finding("data folder", str(error), False)
    free = shutil.disk_usage(folder).free
    is_good = free >= _LEAST_FREE_BYTES
    remedy = "" if is_good else "free some space, or set CSM_DATA_DIR to a folder on another disk"
    return Finding("data folder", f"{folder}, {free / 2**30:.0f} GB free", is_good, remedy)


def _temp_folder() -> Finding:
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if not os.access(folder, os.W_OK):
        return Finding(
            "temporary folder", f"{folder} cannot be written", False, "set RAY_TMPDIR to a folder of your own"
        )
    if len(folder) > _LONGEST_TEMP_PATH:
        return Finding("temporary folder", f"{folder} is too long for Ray's sockets", False, "set RAY_TMPDIR=/tmp")
    free = shutil.disk_usage(folder).free
    is_good = free >= _LEAST_FREE_BYTES
    return Finding("temporary folder", f"{folder}, {free / 2**30:.0f} GB free", is_good, "" if is_good else "free some")


def _shared_memory() -> Finding:
    if not _SHARED.is_dir():
        return Finding("shared memory", "no /dev/shm: Ray uses the temporary folder", None)
    free = shutil.disk_usage(_SHARED).free
    is_good = free >= _LEAST_SHARED_BYTES or None
    remedy = "" if is_good else "give the container more: docker run --shm-size 1g"
    return Finding("shared memory", f"{free / 2**30:.1f} GB free", is_good, remedy)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
