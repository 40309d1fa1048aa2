"""`csm-serve verify` as it is typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.cli import main

COMMAND = [sys.executable, "-c", "from serve_app.cli import main; main()", "verify"]


def test_one_page_a_json_file_and_a_sample(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    options = [
        "--device",
        "cpu",
        "--step",
        "plain",
        "--frames",
        "1",
        "--text",
        "Hi.",
        "--skip",
        "speed",
        "--json",
        "found.json",
    ]
    done = subprocess.run(
        [*COMMAND, "--model", str(tiny_checkpoint_folder), *options],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    for words in ("random weights: it sounds like noise", "no code differs", "skipped as asked", "csm-verify.wav"):
        assert words in done.stdout
    assert (tmp_path / "csm-verify.wav").stat().st_size > 44
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["passed"] and found["failure"] is None
    statuses = {check["name"]: check["status"] for check in found["checks"]}
    assert statuses == {
        "files": "passed",
        "parity": "passed",
        "served": "passed",
        "sample": "passed",
        "speed": "not run",
        "words": "not run",
        "ends": "not run",
    }


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--dtype", "float16"], "setting dtype: "),
        (["--quantization", "int3"], "setting quantization: "),
        (["--step", "quick"], "setting engine.step: "),
        (["--frames", "0"], "--frames: must be from 1 to 64"),
        (["--skip", "files"], "--skip: files is not a check; choose from parity, "),
        (["--sample", "/no/such/folder/s.wav"], "--sample: /no/such/folder/s.wav cannot be written: "),
        (["--json", "/"], "--json: / cannot be written: "),
        (["--model", "no/such/folder/at/all"], "no/such/folder/at/all: no such folder; give "),
        (["--model", "/", "--text", ""], "--text: is empty: "),
        (["--utterances", "17"], "--utterances: must be from 1 to 16"),
        (["--model", "demo", "--compare", "demo", "demo@int8"], "--compare: names both models"),
        (["--compare", "demo", "demo@int3"], "--compare: int3 in demo@int3 is none of "),
        (["--compare", "demo", "no/such/folder/at/all"], "no/such/folder/at/all: no such folder; give "),
        (["--compare", "demo", "demo", "--page", "/no/such/page.html"], "--page: /no/such/page.html cannot be "),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_bad_option_is_one_line_and_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, argv: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["csm-serve", "verify", *argv])
    with pytest.raises(SystemExit) as stopped:
        main()
    message = stopped.value.code
    assert isinstance(message, str), "which Python prints to stderr, and exits with 1"
    assert message.startswith(f"csm-serve: {line}")
    assert "\n" not in message


def test_a_failed_check_is_one_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_checkpoint_folder: Path
) -> None:
    from serve_app.verify import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "free_host_bytes", lambda: 0)
    skips = [word for name in ("served", "sample", "speed", "words") for word in ("--skip", name)]
    argv = ["--model", str(tiny_checkpoint_folder), "--device", "cpu", "--json", "found.json", *skips]
    monkeypatch.setattr(sys, "argv", ["csm-serve", "verify", *argv])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    shown = capsys.readouterr()
    assert "FAILED" in shown.out
    last = shown.err.strip().splitlines()[-1]
    assert last.startswith("csm-serve verify: parity: a float32 model needs ") and last.endswith("or --skip parity")
    assert json.loads((tmp_path / "found.json").read_text())["failure"] in last


@pytest.mark.slow
def test_two_number_formats_of_one_checkpoint_side_by_side(tmp_path: Path) -> None:
    options = ["--compare", "demo", "demo@int8", "--utterances", "2", "--device", "cpu"]
    done = subprocess.run([*COMMAND, *options], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["demo", "demo", "demo@int8", "demo@int8"]
    page = (tmp_path / "csm-compare.html").read_text()
    assert page.count("<audio") == 8
