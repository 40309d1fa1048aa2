"""The error report: fewer bits, larger errors; and that its weights are random is said."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.engine import quantization_error


def test_fewer_bits_err_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    path = tmp_path / "error.json"
    arguments = f"--preset tiny --device cpu --frames 4 --step plain --json {path}"
    quantization_error.main(arguments.split())
    values = json.loads(path.read_text())
    assert values["weights"] == "random weights, a stand-in for trained ones"
    assert "random weights, a stand-in for trained ones" in capsys.readouterr().out
    rows = {row["dtype"]: row for row in values["rows"]}
    assert list(rows) == ["bf16", "int8", "int4", "fp8"]
    for row in rows.values():
        assert -1 <= row["cosine_worst"] <= row["cosine_mean"] <= 1
        assert 0 < row["top1_agreement"] <= 1
        assert row["places"] == 4 * 4 * 32
    assert rows["bf16"]["cosine_mean"] > 0.995
    assert rows["bf16"]["cosine_mean"] > rows["int8"]["cosine_mean"] > rows["fp8"]["cosine_mean"] > 0.9
