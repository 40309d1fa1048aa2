"""`make gpu-session`: in order, stopped where it hangs, and a page that says what is next."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import session
from benchmarks.gpu.page import Done, page
from benchmarks.gpu.session_sections import ASKED, PREDICTED_MS, Asked

WRITES = (
    "import json,sys,pathlib; pathlib.Path(sys.argv[sys.argv.index('--json')+1]).write_text(json.dumps({'rows':[]}))"
)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *codes: tuple[str, str, float], seconds: float = 60) -> str:
    """The page of sections that run `code`, each with its limit."""
    asked = [Asked(name, "section", "", "", limit) for name, _, limit in codes]
    by_name = {name: code for name, code, _ in codes}
    real = session.status_of

    def status_of(command: list[str], limit: float, output: object) -> int | None:
        name = Path(command[command.index("--json") + 1]).stem.removeprefix("gpu-session-")
        return real([sys.executable, "-c", by_name[name], *command[3:]], limit, output)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "ASKED", asked)
    monkeypatch.setattr(session, "status_of", status_of)
    try:
        session.main(["--dry-run", "--out", str(folder), "--seconds", str(seconds)])
    except SystemExit as stopped:
        assert "not complete" in str(stopped.code)
    return (folder / "gpu-session.md").read_text()


def test_what_hangs_is_stopped_and_what_fails_costs_its_own_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(
        monkeypatch,
        tmp_path,
        ("hangs", "import time; time.sleep(60)", 0.5),
        ("fails", "raise SystemExit(3)", 8),
        ("works", WRITES, 8),
    )
    assert "| hangs | stopped at its limit" in found
    assert "| fails | failed with status 3, see gpu-session-fails.log |" in found
    assert "| works | done |" in found
    assert json.loads((tmp_path / "gpu-session-works.json").read_text()) == {"rows": []}


def test_a_section_that_may_take_longer_than_is_left_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "| long | left out: 1" in run(monkeypatch, tmp_path, ("long", WRITES, 30), seconds=15)


def test_the_page_says_what_to_do_for_each_figure_out_of_range(tmp_path: Path) -> None:
    steps, streams = tmp_path / "steps.json", tmp_path / "streams.json"
    rows = [
        {"variant": "fused", "dtype": "bf16", "batch": batch, "ms_per_step": ms}
        for batch, ms in ((1, 4.0), (32, 9.0), (64, 9.9), (128, 8.5))
    ]
    steps.write_text(json.dumps({"rows": rows}))
    streams.write_text(json.dumps({"most_streams": 256}))
    done = [Done("kernels", "failed with status 1", True, 3), Done("steps", "done", False, 60)]
    found = page(done, {"steps": steps, "streams": streams}, rehearsed=False)
    after = found.partition("## Next")[2]
    assert "| fused | bf16 | 1 | 4.0 | 3.6 to 5.1 |" in found
    assert "batch 1:" not in after and "fused bf16 at batch 32: 9.0 ms is out of its range" in after
    assert "64 rows are slower than 128" in after
    assert "fewer than 400 streams" in after
    assert "kernels: failed with status 1. production would silently run `graphs`" in after


def test_every_step_that_is_measured_has_a_prediction() -> None:
    for name, dtype in (("steps", "bf16"), ("fp8", "fp8")):
        words = next(asked.arguments for asked in ASKED if asked.name == name).split()
        batches = [int(each) for each in words[words.index("--batch") + 1].split(",")]
        steps = words[words.index("--step") + 1].split(",")
        assert {(step, dtype, batch) for step in steps for batch in batches} <= PREDICTED_MS.keys()
    assert {("fused, dependent", "bf16", batch) for batch in (1, 32)} <= PREDICTED_MS.keys()


@pytest.mark.slow
def test_all_of_it_is_rehearsed_on_a_cpu(tmp_path: Path) -> None:
    session.main(["--dry-run", "--out", str(tmp_path)])
    found = (tmp_path / "gpu-session.md").read_text()
    assert found.count("| done |") == len(ASKED), found
