"""Ratios of engine_step's results and of the baseline they are held against."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

_OURS = "csm-serve"
_DTYPES = {"float32": "fp32", "bfloat16": "bf16"}
"""As results from before 2026-11-25 name them."""
UNCOMMITTED = "+"
"""Follows the commit where files had changed since."""


class BrokenResult(Exception):
    """A file that is missing or does not hold what it should. The message names it."""


class Key(NamedTuple):
    """What must agree for two ratios to be comparable. Neither a device's nor a thread count's gain is the engine's."""

    device: str
    preset: str
    dtype: str
    batch: int
    kv: int
    """Positions that a step reads; 0 in results from before it was stated: the first few after a short text."""

    @property
    def what(self) -> str:
        return f"{self.preset}, {self.dtype}, batch {self.batch}, kv {self.kv}"


@dataclass(frozen=True, slots=True)
class Ratio:
    """transformers' time for a frame over ours."""

    key: Key
    ratio: float
    commit: str
    measured_at: datetime


def newest(ratios: Iterable[Ratio]) -> dict[Key, Ratio]:
    return {ratio.key: ratio for ratio in sorted(ratios, key=lambda ratio: ratio.measured_at)}


def read_results(paths: Sequence[Path]) -> list[Ratio]:
    """Every ratio in these results of engine_step. Raises BrokenResult."""
    found = []
    for path in paths:
        values = _read(path)
        try:
            commit = values["commit"] + (UNCOMMITTED if values["uncommitted_changes"] else "")
            found += [
                _ratio(_device(values), row, row["speed_up"], commit, values["measured_at"])
                for row in _compared(values["rows"])
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise BrokenResult(f"{path}: not a result of engine_step ({type(error).__name__}: {error})") from error
    return found


def read_baseline(path: Path) -> list[Ratio]:
    """Raises BrokenResult."""
    values = _read(path)
    try:
        return [_ratio(row["device"], row, row["ratio"], row["commit"], row["measured_at"]) for row in values["rows"]]
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenResult(f"{path}: not a baseline ({type(error).__name__}: {error})") from error


def write_baseline(path: Path, ratios: Iterable[Ratio]) -> None:
    rows = [
        {
            "preset": ratio.key.preset,
            "dtype": ratio.key.dtype,
            "batch": ratio.key.batch,
            "kv": ratio.key.kv,
            "ratio": ratio.ratio,
            "commit": ratio.commit,
            "device": ratio.key.device,
            "measured_at": ratio.measured_at.isoformat(timespec="seconds"),
        }
        for ratio in sorted(ratios, key=lambda ratio: ratio.key)
    ]
    what = "Times as fast as transformers, as accepted by python -m benchmarks.common.regression --accept"
    path.write_text(json.dumps({"what": what, "rows": rows}, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise BrokenResult(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise BrokenResult(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise BrokenResult(f"{path}: not an object")
    return values


def _ratio(device: str, row: dict[str, Any], ratio: float, commit: str, measured_at: str) -> Ratio:
    if not 0 < ratio < math.inf:
        raise ValueError(f"{ratio} is no ratio")
    at = datetime.fromisoformat(measured_at)
    if at.tzinfo is None:
        raise ValueError(f"{measured_at} has no time zone")
    dtype = str(row["dtype"])
    key = Key(device, str(row["preset"]), _DTYPES.get(dtype, dtype), int(row["batch"]), int(row.get("kv", 0)))
    return Ratio(key, float(ratio), commit, at)


def _compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours, where transformers was measured too. Older results have one row for both."""
    engines = {row.get("engine") for row in rows}
    if engines == {_OURS}:
        return []
    return [row for row in rows if row.get("engine", _OURS) == _OURS]


def _device(values: dict[str, Any]) -> str:
    """With the threads, which older results state in their command only, and what the kernels were compiled for: one
    processor's name may stand for several kinds.
    """
    in_command = re.search(r"--threads (\d+)", values["command"])
    threads = values.get("threads") or (in_command[1] if in_command else None)
    device = f"{values['device']}, {values['processor']}, {values['cores']} cores"
    if instruction_set := values.get("native_instruction_set"):
        device += f", {instruction_set}"
    return f"{device}, threads: {threads}" if threads else device
