"""A load test on the terminal: a bar a phase with the figures so far, and the table at its end."""

import statistics
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.common.records import Record, Run

_COLUMNS = (
    ("load", "level", ""),
    ("ok", "ok", ""),
    ("failed", "errors", ""),
    ("first audio ms, p50", "ttfa_ms", "p50"),
    ("p95", "ttfa_ms", "p95"),
    ("first chunk ms", "first_chunk_ms_of_audio", "p50"),
    ("RTF p50", "rtf", "p50"),
    ("C100", "continuity", "c100"),
    ("underrun s, max", "underrun_s", "max"),
    ("audio s/s", "audio_seconds_per_second", ""),
    ("ended by itself", "ended_by_itself", ""),
)
_SHARES = ("continuity", "ended_by_itself")


class LiveScreen:
    """Used as a context; a phase's bar stays when the next begins."""

    def __init__(self, console: Console) -> None:
        bar = (
            TextColumn("{task.description:>14}"),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[so_far]}"),
        )
        self._progress = Progress(*bar, console=console)
        self._task: TaskID | None = None
        self._seconds: float | None = None
        self._began = 0.0
        self._first_audio: list[float] = []
        self._num_errors = 0

    def __enter__(self) -> "LiveScreen":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def phase(self, label: str, requests: int | None, seconds: float | None) -> None:
        self._finish()
        # By requests where their number is known; a bar of seconds would stand still while the last ones are heard.
        self._seconds = None if requests else seconds
        self._task = self._progress.add_task(label, total=requests or seconds, so_far="")
        self._began, self._first_audio, self._num_errors = time.perf_counter(), [], 0

    def record(self, record: Record) -> None:
        if record.error is not None:
            self._num_errors += 1
        elif record.chunks:
            self._first_audio.append(record.chunks[0].at * 1000)
        if self._task is None:
            return
        if self._seconds is None:
            self._progress.advance(self._task)
        else:
            elapsed = time.perf_counter() - self._began
            self._progress.update(self._task, completed=min(elapsed, self._seconds))
        self._progress.update(self._task, so_far=self._so_far())

    def _so_far(self) -> str:
        first = f", first audio {statistics.median(self._first_audio):.0f} ms" if self._first_audio else ""
        return f"{len(self._first_audio)} ok, {self._num_errors} failed{first}"

    def _finish(self) -> None:
        if self._task is not None:
            self._progress.stop_task(self._task)


def table(run: Run) -> Table:
    title = f"{run.name}: {run.target}, {'requests a second' if run.loop == 'open' else 'streams at once'}"
    result = Table(title=title, caption=_client(run.client))
    for heading, _, _ in _COLUMNS:
        result.add_column(heading, justify="right")
    for level in run.levels:
        result.add_row(*(_cell(level, name, part) for _, name, part in _COLUMNS))
    return result


def shown(value: Any) -> str:
    """What is not known is said to be so."""
    if value is None:
        return "N/A"
    if isinstance(value, dict):
        return ", ".join(f"{kind} {count}" for kind, count in value.items()) or "0"
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else f"{value:.0f}"


def cold_start(records: Sequence[Record]) -> str:
    """The very first request, which counts in no figure."""
    first = next((record for record in records if record.warm_up and record.chunks), None)
    return f"the first request of all: first audio after {first.chunks[0].at * 1000:.0f} ms" if first else ""


def _cell(level: dict[str, Any], name: str, part: str) -> str:
    value = level[name][part] if part else level[name]
    return f"{value:.0%}" if name in _SHARES and value is not None else shown(value)


def _client(client: dict[str, Any]) -> str:
    return (
        f"the client: {shown(client['cpu_share'])} of a core, loop lag p99 {shown(client['loop_lag_p99_ms'])} ms, "
        f"sent late p99 {shown(client['send_lateness_p99_ms'])} ms"
    )
