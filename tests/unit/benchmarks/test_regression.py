"""The regression check: ratios only, within a tolerance, and nothing passes unseen."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.common import ratios, regression, results_file

RATIOS = {("tiny", 1): 4.0, ("tiny", 8): 3.0}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results_file, "FOLDER", tmp_path)
    monkeypatch.setattr(regression, "BASELINE", tmp_path / "baseline.json")
    return tmp_path


def store(folder: Path, measured: dict[tuple[str, int], Any], minutes_ago: float = 1, **changes: Any) -> Path:
    values = {
        "measured_at": (datetime.now(UTC) - timedelta(minutes=minutes_ago)).isoformat(),
        "commit": "abc1234",
        "uncommitted_changes": False,
        "command": "python -m benchmarks.engine.step --preset tiny",
        "threads": 1,
        "device": "cpu",
        "processor": "Some CPU",
        "cores": 2,
        "rows": [
            row
            for (preset, batch), ratio in measured.items()
            for row in (row_of("csm-serve", preset, batch, ratio), row_of("transformers", preset, batch, None))
        ],
    } | changes
    path = folder / f"{len(list(folder.iterdir()))}-engine-step.json"
    path.write_text(json.dumps(values))
    return path


def row_of(engine: str, preset: str, batch: int, ratio: Any) -> dict[str, Any]:
    where = {"preset": preset, "dtype": "fp32", "batch": batch, "kv": 256}
    return {"engine": engine, **where, "ms_per_step": 10.0, "speed_up": ratio}


def accepted(folder: Path, measured: dict[tuple[str, int], Any], **changes: Any) -> None:
    """A baseline of these ratios, and no result left."""
    path = store(folder, measured, **changes)
    regression.main(["--accept"])
    path.unlink()


def scaled(share: float) -> dict[tuple[str, int], float]:
    return {key: ratio * share for key, ratio in RATIOS.items()}


def output(capsys: pytest.CaptureFixture[str]) -> str:
    """In one line: how a table breaks its cells is not the point."""
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.9, "holds"), (1.0, "holds"), (2.0, regression.GAINED)], ids=["noise", "same", "gain"]
)
def test_noise_and_gains_pass(folder: Path, share: float, verdict: str, capsys: pytest.CaptureFixture[str]) -> None:
    accepted(folder, RATIOS)
    store(folder, scaled(share))
    regression.main([])
    told = output(capsys)
    assert told.count(verdict) == 2
    assert "compared 2 of 2" in told


def test_a_loss_of_a_third_fails_with_a_line_for_each(folder: Path) -> None:
    accepted(folder, RATIOS)
    store(folder, scaled(0.7))
    with pytest.raises(SystemExit) as failure:
        regression.main([])
    first, second = str(failure.value).splitlines()
    assert first.startswith(
        "tiny, fp32, batch 1, kv 256: 2.80 times as fast as transformers, was 4.00 at abc1234 (-30%"
    )
    assert second.startswith("tiny, fp32, batch 8, kv 256: 2.10")


def test_absolute_times_are_not_judged(folder: Path) -> None:
    accepted(folder, RATIOS)
    rows = [row_of("csm-serve", *key, ratio) | {"ms_per_step": 9999.0} for key, ratio in RATIOS.items()]
    rows.append(row_of("transformers", "tiny", 1, None))
    store(folder, {}, rows=rows)
    regression.main([])


def test_a_row_that_was_not_measured_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accepted(folder, RATIOS)
    store(folder, {("tiny", 1): 4.0, ("small", 1): 2.0})
    regression.main([])
    told = output(capsys)
    assert "not compared: not measured in this run" in told
    assert "not compared: no baseline" in told
    assert "compared 1 of 3" in told


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "Some GPU"},
        {"processor": "Other CPU"},
        {"cores": 64},
        {"threads": 2},
        {"native_instruction_set": "AVX2, FMA"},
    ],
    ids=["device", "processor", "cores", "threads", "instruction set"],
)
def test_another_device_is_not_compared(
    folder: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    accepted(folder, RATIOS)
    store(folder, scaled(0.1), **changes)
    regression.main([])
    told = output(capsys)
    assert "another device" in told
    assert "nothing was compared: this is no pass" in told


def test_results_older_than_this_run_count_only_when_named(folder: Path) -> None:
    accepted(folder, RATIOS)
    path = store(folder, RATIOS, minutes_ago=600)
    with pytest.raises(SystemExit, match="no engine-step result is of the last hour"):
        regression.main([])
    regression.main([str(path)])


def test_results_of_an_earlier_commit_are_not_of_this_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accepted(folder, RATIOS)
    store(folder, {("tiny", 8): 0.1}, minutes_ago=30, commit="0000000")
    store(folder, {("tiny", 1): 4.0}, uncommitted_changes=True)
    regression.main([])
    assert "compared 1 of 2" in output(capsys)


def test_the_newest_of_several_results_counts(folder: Path) -> None:
    accepted(folder, RATIOS)
    store(folder, RATIOS, minutes_ago=1)
    store(folder, scaled(0.1), minutes_ago=9)
    regression.main([])


def test_accepting_keeps_the_rows_of_other_devices(folder: Path) -> None:
    accepted(folder, RATIOS, device="Some GPU")
    accepted(folder, scaled(2))
    rows = json.loads(regression.BASELINE.read_text())["rows"]
    assert {(row["device"].partition(",")[0], row["preset"], row["batch"], row["ratio"]) for row in rows} == {
        ("Some GPU", "tiny", 1, 4.0),
        ("Some GPU", "tiny", 8, 3.0),
        ("cpu", "tiny", 1, 8.0),
        ("cpu", "tiny", 8, 6.0),
    }
    assert {row["commit"] for row in rows} == {"abc1234"}


@pytest.mark.parametrize("ratio", [None, "fast", 0, -1, float("nan")], ids=str)
def test_a_ratio_that_is_none_is_one_clear_line(folder: Path, ratio: Any) -> None:
    path = store(folder, {("tiny", 1): ratio})
    with pytest.raises(SystemExit, match=f"{path.name}: not a result of engine_step") as failure:
        regression.main(["--accept"])
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"rows": [{}]}'], ids=str)
def test_a_missing_or_broken_baseline_is_one_clear_line(folder: Path, text: str | None) -> None:
    store(folder, RATIOS)
    if text is not None:
        regression.BASELINE.write_text(text)
    with pytest.raises(SystemExit, match=r"baseline\.json: ") as failure:
        regression.main([])
    assert "\n" not in str(failure.value)


def test_the_stored_baseline_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Path(regression.__file__).parents[1] / "baseline.json"
    assert regression.read_baseline(stored)


def test_results_of_the_older_form_are_read(folder: Path) -> None:
    row = {"preset": "tiny", "dtype": "float32", "batch": 1, "frame_ms": 1.0, "speed_up": 2.0}
    path = store(folder, {}, rows=[row], threads=None, command="python -m benchmarks.engine.step --threads 1")
    (ratio,) = ratios.read_results([path])
    assert ratio.key == ("cpu, Some CPU, 2 cores, threads: 1", "tiny", "fp32", 1, 0)


def test_other_types_and_lengths_are_other_ratios(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accepted(folder, RATIOS)
    row = row_of("csm-serve", "tiny", 1, 0.1)
    theirs = row_of("transformers", "tiny", 1, None)
    store(folder, {}, rows=[row | {"dtype": "bf16"}, row | {"kv": 512}, theirs])
    regression.main([])
    assert "compared 0 of 4" in output(capsys)


def test_a_result_without_transformers_has_no_ratio(folder: Path) -> None:
    assert ratios.read_results([store(folder, {}, rows=[row_of("csm-serve", "tiny", 1, None)])]) == []
