"""Runs as the report reads them: each checked on the way in, so that a broken file is one clear line."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.records import Record, Run, read_records, read_run

SECTIONS: dict[str, tuple[str, ...]] = {
    "ttfa_ms": ("mean", "p50", "p95", "p99"),
    "first_chunk_ms_of_audio": ("p50",),
    "rtf": ("mean", "p50", "p95", "p99"),
    "end_to_end_s": ("p50", "p95", "p99"),
    "lateness_ms": ("p50", "p95", "p99", "max"),
    "underrun_s": ("p50", "p95", "max"),
    "continuity": ("c50", "c100", "c200"),
    "viability": ("chunks", "streams"),
    "inter_chunk_gap_ms": ("p50", "p95", "p99"),
}
NUMBERS = (
    *("level", "requests", "ok", "streams_judged", "single_chunk_streams"),
    *("audio_seconds_per_second", "requests_per_second", "audio_seconds"),
)
INVALID = "INVALID"
"""What marks a run that proves nothing, wherever it is shown."""


class BrokenInput(Exception):
    """A file that is missing or is not what the load tool writes. The message names the file."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run and its records. `label` is unique within a report."""

    label: str
    run: Run
    records: tuple[Record, ...]

    @property
    def is_valid(self) -> bool:
        return not self.run.invalid_because

    @property
    def mark(self) -> str:
        """The label as every table and plot shows it."""
        return self.label if self.is_valid else f"{self.label} ({INVALID})"

    @property
    def warning(self) -> str:
        return f"{self.mark}: {'; '.join(self.run.invalid_because)}"


def load(paths: Iterable[Path]) -> list[Measured]:
    """Read NAME.json and the NAME.jsonl beside it. Raises BrokenInput."""
    found: list[Measured] = []
    for path in paths:
        run = _run(path)
        label = run.name or path.stem
        while label in {measured.label for measured in found}:
            label += "'"
        found.append(Measured(label, run, _records(path.with_suffix(".jsonl"))))
    return found


def figure(level: dict[str, Any], name: str) -> float | None:
    """The value at `name` ("rtf" "." "p95", or "requests"). None is N/A: not measured, or not finite."""
    value: Any = level
    for part in name.split("."):
        value = value.get(part) if value is not None else None
    return None if value is None or not math.isfinite(value) else float(value)


def _run(path: Path) -> Run:
    try:
        run = read_run(path)
    except OSError as error:
        raise BrokenInput(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BrokenInput(f"{path}: not the summary of a load run ({type(error).__name__}: {error})") from error
    if problem := _problem(run):
        raise BrokenInput(f"{path}: not the summary of a load run ({problem})")
    return run


def _problem(run: Run) -> str | None:
    words = (run.name, run.target, run.url, run.command, run.loop, run.started_at, *run.invalid_because)
    if not all(isinstance(word, str) for word in words):
        return "name, target, url, command, loop, started_at and the reasons must be text"
    if not all(isinstance(value, dict) for value in (run.environment, run.client)):
        return "environment and client must be objects"
    if not all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) for pair in run.memory_mb):
        return "memory_mb must be pairs of numbers"
    problems = (_level_problem(number, level) for number, level in enumerate(run.levels, 1))
    return next((problem for problem in problems if problem), None)


def _level_problem(number: int, level: Any) -> str | None:
    """A missing key is an error, not N/A: else a renamed one would pass for "not measured"."""
    if not isinstance(level, dict) or not _is_number(level.get("level")):
        return f"level {number} does not say its load"
    if not isinstance(level.get("errors"), dict):
        return f"level {number} has no errors"
    for name in (*NUMBERS, *SECTIONS):
        if name not in level:
            return f"level {number} has no {name}"
        parts = SECTIONS.get(name)
        if parts is None and not _is_figure(level[name]):
            return f"{name} of level {number} is no number"
        if parts is not None and level[name] is not None and not _is_section(level[name], parts):
            return f"{name} of level {number} must hold {', '.join(parts)}"
    return None


def _is_section(value: Any, parts: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and all(part in value and _is_figure(value[part]) for part in parts)


def _is_figure(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _records(path: Path) -> tuple[Record, ...]:
    try:
        records = tuple(read_records(path))
    except OSError as error:
        raise BrokenInput(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BrokenInput(f"{path}: not the records of a load run ({type(error).__name__}: {error})") from error
    for line, record in enumerate(records, 1):
        times = (number for chunk in record.chunks for number in (chunk.at, chunk.audio_seconds))
        if not all(map(_is_number, (record.level, *times))):
            raise BrokenInput(f"{path}: line {line}: level, and each chunk's time and length, must be numbers")
    return records
