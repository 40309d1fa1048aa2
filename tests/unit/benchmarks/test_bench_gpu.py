"""`make bench-gpu`: it runs on a bare machine, ends in time, and loses only the section that breaks."""

import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.engine import bare
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import sections as gpu_sections
from serve_app import settings
from tests.support import bare_machine

ROOT = Path(gpu.__file__).parents[2]


@pytest.mark.slow
def test_every_section_runs_without_this_projects_packages(tmp_path: Path) -> None:
    command = [sys.executable, bare_machine.__file__, str(tmp_path)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "mimi: left out: moshi is not installed here" in done.stdout
    for section in gpu_sections.SECTIONS:
        if not section.needs:
            values = json.loads((tmp_path / f"{section.name}.json").read_text())
            assert values["rows"], section.name
            assert values["device"] == "cpu"


def test_settings_are_the_same_with_stand_ins_for_their_libraries() -> None:
    with pytest.MonkeyPatch.context() as patch, bare._standing_in():
        for name in [name for name in sys.modules if name.startswith("serve_app.settings")]:
            patch.delitem(sys.modules, name)
        module = import_module("serve_app.settings")
    for name in ("EngineSettings", "CodecSettings", "SamplingSettings", "LimitSettings"):
        real = getattr(settings, name)().model_dump()
        assert vars(getattr(module, name)()) == real
    changed = module.EngineSettings(max_batch_size=3).model_copy(update={"threads": 2})
    assert (changed.max_batch_size, changed.threads) == (3, 2)
    with pytest.raises(TypeError, match="EngineSettings has no typo"):
        module.EngineSettings(typo=1)


def section(name: str, code: str, limit_seconds: float = 30) -> gpu_sections.Section:
    """A process that runs `code`."""
    return gpu_sections.Section(name, code, (), (), limit_seconds)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *sections: gpu_sections.Section, seconds: float = 60) -> None:
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    monkeypatch.setattr(gpu, "_PYTHON", (sys.executable, "-c"))
    gpu.main(["--dry-run", "--out", str(folder), "--seconds", str(seconds)])


SAVES_A_ROW = "import sys, pathlib; pathlib.Path(sys.argv[sys.argv.index('--json') + 1]).write_text('rows')"


def test_a_section_that_breaks_or_hangs_loses_only_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hangs = section("hangs", f"{SAVES_A_ROW}; import time; time.sleep(60)", limit_seconds=2)
    breaks = section("breaks", f"{SAVES_A_ROW}; sys.exit(3)")
    works = section("works", SAVES_A_ROW)
    began = time.monotonic()
    with pytest.raises(SystemExit, match="not complete: hangs, breaks"):
        run(monkeypatch, tmp_path, hangs, breaks, works)
    assert time.monotonic() - began < 20
    told = " ".join(capsys.readouterr().out.split())
    assert "hangs: stopped at its limit of 2 s; what it had measured is in" in told
    assert "breaks: failed with status 3" in told
    assert "works: done in" in told
    assert len(list(tmp_path.iterdir())) == 3


def test_a_section_that_may_not_end_in_time_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, tmp_path, section("long", "", limit_seconds=100), seconds=50)
    assert "long: left out: 50 s are left, it may take its limit of 100 s" in capsys.readouterr().out


def test_the_limits_leave_room_for_what_matters_most() -> None:
    """All of the first sections fit even if each takes its limit; in all it ends within nine minutes."""
    limits = [s.limit_seconds for s in gpu_sections.SECTIONS]
    assert sum(limits[:5]) <= gpu._SECONDS < 540
    assert len({s.name for s in gpu_sections.SECTIONS}) == len(limits)


def test_an_unknown_section_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as failure:
        gpu.main(["--dry-run", "--only", "engine-step,nonsense"])
    assert failure.value.code == 2
    assert "--only nonsense: the sections are engine-step, streams" in capsys.readouterr().err
