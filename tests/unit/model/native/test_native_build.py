"""Compiling: once, for any processor, by several processes at once, and never with a traceback."""

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from serve_app.errors import StartupError
from serve_app.model.native import build, frame
from serve_app.model.native.bandwidth import read_bandwidth
from tests.support.native_rows import make_model, make_rows, mixed_sampling

SMALL = Path(build.__file__).parent / "reading" / "reading.cpp"
"""Compiles in a moment."""


@pytest.fixture
def cold_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing is compiled yet; what is compiled goes here."""
    monkeypatch.setattr(build.platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    build.library.cache_clear()
    yield tmp_path / "cache"
    build.library.cache_clear()


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("/bin/false", "/bin/false failed"), ("/no/such/compiler -O1", "/no/such/compiler could not be run")],
)
def test_a_broken_compiler_is_a_reason_of_one_line(
    cold_cache: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, reason: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    found = frame.supports(make_model("tiny"))
    assert found is not None
    assert reason in found and "\n" not in found


def test_no_compiler_is_a_reason_with_the_remedy(cold_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "install g++" in (frame.supports(make_model("tiny")) or "")


def test_a_compile_error_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="nonsense"):
        build.build(("-march=nonsense",), tmp_path)
    assert not list(tmp_path.iterdir()), "no draft is left"


def test_it_is_compiled_once(tmp_path: Path) -> None:
    first = build.build((), tmp_path, SMALL)
    written = first.stat().st_mtime_ns
    assert build.build((), tmp_path, SMALL) == first
    assert first.stat().st_mtime_ns == written
    assert build.build(("-DOTHER",), tmp_path, SMALL) != first


def test_several_processes_may_compile_at_once(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from serve_app.model.native import build;"
        "build.load(build.build((), *map(pathlib.Path, sys.argv[1:])))"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(SMALL)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert build.build((), tmp_path / "file" / "kernels", SMALL).exists()


@pytest.mark.parametrize(
    "flags", [("-mavx2", "-mfma", "-O1"), pytest.param(("-O1",), marks=pytest.mark.slow)], ids=["avx2", "any processor"]
)
def test_older_processors_compute_the_same(
    flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not sys.platform.startswith("linux") or build.native_flags() != ("-march=native",):
        pytest.skip("these flags are x86's")
    for dtype, quantization in ((torch.float32, "none"), (torch.bfloat16, "none"), (torch.float32, "int8")):
        model = make_model("odd sizes", dtype)
        model.quantize("int8" if quantization == "int8" else "none")
        rows = mixed_sampling(model, make_rows(model, 5), 1)
        others = rows.clone()
        rows.native(model).step(5)
        with monkeypatch.context() as patch:
            patch.setattr(frame, "library", lambda: ctypes.CDLL(str(build.build(flags, tmp_path))))
            others.native(model).step(5)
        written, expected = (
            torch.stack([r.kv[:, :, i, :, p - 1] for i, p in enumerate(r.position)]).float() for r in (others, rows)
        )
        torch.testing.assert_close(written, expected, rtol=1e-2, atol=1e-2)


def test_bandwidth_is_that_of_a_computer() -> None:
    assert 1e8 < read_bandwidth(2, 1 << 24, 2) < 1e13
