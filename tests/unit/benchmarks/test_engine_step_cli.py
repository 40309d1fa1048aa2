"""`python -m benchmarks.engine.step`: what it writes, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.engine import step as engine_step

ROOT = Path(engine_step.__file__).parents[2]


@pytest.mark.slow
def test_a_run_writes_every_row_with_what_it_was_measured_on(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "steps.json"
    options = f"--preset tiny --device cpu --batch 1,2 --dtype fp32,int8 --steps 2 --kv 16 --step plain --json {path}"
    command = [sys.executable, "-m", "benchmarks.engine.step", *options.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "times as fast" in done.stdout
    values = json.loads(path.read_text())
    assert values["device"] == "cpu"
    assert values["command"] == f"python -m benchmarks.engine.step {options}"
    assert values["bandwidth_gb_per_s"] > 0
    known = {"commit", "uncommitted_changes", "measured_at", "processor", "cores", "threads", "torch", "floor"}
    assert known < values.keys()
    found = {(row["engine"], row["variant"], row["dtype"], row["batch"], row["kv"]) for row in values["rows"]}
    cells = [(1, 16), (2, 16)]
    assert found == {
        *(("csm-serve", "plain", dtype, *cell) for dtype in ("fp32", "int8") for cell in cells),
        # Beside int8 it runs in the type of that model.
        *(("transformers", "eager", dtype, *cell) for dtype in ("fp32", "bf16") for cell in cells),
    }
    for row in values["rows"]:
        assert row["preset"] == "tiny"
        assert row["ms_per_step"] > 0
        assert row["frames_per_s"] == pytest.approx(row["batch"] * 1000 / row["ms_per_step"], rel=0.01)
        assert row["real_time_factor"] == pytest.approx(row["ms_per_step"] / 80, rel=0.01, abs=1e-3)
        assert 0 <= row["floor_share"] < 1
        assert (row["speed_up"] is None) == (row["engine"] == "transformers")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--preset huge", "'huge' is none of tiny, small, csm-1b"),
        ("--dtype fp32,fp4", "'fp4' is none of fp32, bf16, int8, int4, fp8"),
        ("--batch 1,0", "'1,0' is not a list of numbers from 1 on"),
        ("--engines vllm", "'vllm' is none of csm-serve, transformers"),
        ("--step fastest", "'fastest' is none of auto, plain"),
        ("--steps 0", "--steps must be at least 1"),
        ("--kv 8 --steps 20", "--kv 8: 20 steps want more than 22, the model has 2048"),
        ("--kv 4096", "--kv 4096"),
        ("--variants static", "transformers compiles for its static cache on CUDA only"),
        ("--dtype fp8", "fp8 needs a CUDA device"),
        ("--step fused --engines csm-serve --kv 40", "engine.step: fused cannot run here"),
    ],
    ids=lambda value: value,
)
def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, options: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--preset", "tiny", "--device", "cpu", *options.split(), "--json", str(tmp_path / "steps.json")]
    with pytest.raises(SystemExit) as failure:
        engine_step.main(arguments)
    assert failure.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as failure:
        engine_step.main(["--preset", "tiny", "--device", "cuda"])
    assert failure.value.code == 2
    assert "torch finds no CUDA device" in capsys.readouterr().err
