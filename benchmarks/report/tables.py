"""The report's tables, free of any markup: Markdown and HTML are made from the same cells."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report.input import INVALID, Measured, figure

NOT_AVAILABLE = "n/a"
GLOSSARY = (
    "TTFA: from sending a request to its first audio byte, WAV header excluded; the first chunk's length stands beside "
    "it. RTF: time to receive, over the audio's length. Lateness: a chunk's arrival against the moment a player that "
    "started with the first chunk needs it; negative is early. Underrun: how long that player stood still. C50, C100, "
    "C200: share of judged streams that were never later than 50, 100, 200 ms; a stream of one chunk is not judged. "
    "Viable: share of chunks, and of streams in every chunk, that came before they were "
    "needed. n/a: not measured, which is no pass."
)


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[str, ...]
    invalid: frozenset[int] = frozenset()
    """The cells that rest on an invalid run."""


def _whole(cells: tuple[str, ...], is_valid: bool) -> Row:
    return Row(cells, frozenset() if is_valid else frozenset(range(len(cells))))


@dataclass(frozen=True, slots=True)
class Table:
    """`warnings` names each invalid run in it with its reasons."""

    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    text_columns: int = 1
    """The leading columns that are words; the others are figures and stand to the right."""


def number(value: float) -> str:
    """Three digits: what is measured is not known more closely. What is not 0 does not look like 0."""
    if 0 < abs(value) < 0.001:
        return f"{value:.1g}"
    decimals = next((decimals for limit, decimals in ((100, 0), (10, 1), (1, 2)) if abs(value) >= limit), 3)
    return f"{value:.{decimals}f}" if value else "0"


def plain(value: float) -> str:
    """Counts and loads."""
    return f"{value:.10g}"


def share(value: float) -> str:
    """Rounded down, so that 100.0 % means every one."""
    return f"{math.floor(round(value * 1000, 6)) / 10:.1f} %"


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    name: str
    show: Callable[[float], str] = number
    better: str = ""
    """"lower" or "higher", where one is."""

    def cell(self, level: dict[str, Any]) -> str:
        value = figure(level, self.name)
        return NOT_AVAILABLE if value is None else self.show(value)


def _columns(title: str, section: str, parts: str, show: Callable[[float], str] = number) -> tuple[Column, ...]:
    return tuple(Column(f"{title} {part}", f"{section}.{part}", show) for part in parts.split())


LATENCY = (
    *_columns("TTFA ms", "ttfa_ms", "mean p50 p95 p99"),
    Column("first chunk, ms of audio p50", "first_chunk_ms_of_audio.p50"),
    *_columns("end to end s", "end_to_end_s", "p50 p95 p99"),
)
SMOOTHNESS = (
    *(Column(f"C{ms}", f"continuity.c{ms}", share) for ms in (50, 100, 200)),
    Column("judged", "streams_judged", plain),
    Column("one chunk", "single_chunk_streams", plain),
    *_columns("viable", "viability", "chunks streams", share),
    *_columns("underrun s", "underrun_s", "p50 p95 max"),
)
CHUNKS = (
    *_columns("lateness ms", "lateness_ms", "p50 p95 p99 max"),
    *_columns("gap ms", "inter_chunk_gap_ms", "p50 p95 p99"),
)
THROUGHPUT = (
    *_columns("RTF", "rtf", "mean p50 p95 p99"),
    Column("audio s/s", "audio_seconds_per_second"),
    Column("requests/s", "requests_per_second"),
    Column("audio s", "audio_seconds"),
    Column("ended by itself", "ended_by_itself", share, "higher"),
)
COMPARED = (
    *(Column(f"TTFA {part}, ms", f"ttfa_ms.{part}", better="lower") for part in ("p50", "p95", "p99")),
    Column("first chunk p50, ms of audio", "first_chunk_ms_of_audio.p50"),
    Column("end to end p50, s", "end_to_end_s.p50", better="lower"),
    Column("RTF p50", "rtf.p50", better="lower"),
    Column("RTF p95", "rtf.p95", better="lower"),
    Column("audio s/s", "audio_seconds_per_second", better="higher"),
    *(Column(f"C{ms}", f"continuity.c{ms}", share, "higher") for ms in (50, 100, 200)),
    Column("underrun p95, s", "underrun_s.p95", better="lower"),
)


def tables(runs: Sequence[Measured]) -> list[Table]:
    """Everything the report says in figures, in reading order."""
    found = [_facts(runs)]
    if len(runs) > 1:
        found.append(_comparison(runs))
    found.append(_by_level("Time to first audio, and to the end", runs, LATENCY))
    found.append(_by_level("Continuity", runs, SMOOTHNESS))
    found.append(_by_level("Chunks against playback", runs, CHUNKS))
    found.append(_by_level("Speed and throughput", runs, THROUGHPUT))
    return [*found, _outcomes(runs)]


def facts(measured: Measured) -> dict[str, str]:
    """What must stand beside a run's figures."""
    run, environment = measured.run, dict(measured.run.environment)
    commit = str(environment.pop("commit", "") or NOT_AVAILABLE)
    if environment.pop("uncommitted_changes", False):
        commit += ", with uncommitted changes"
    return {
        "validity": "valid" if measured.is_valid else f"{INVALID}: {'; '.join(run.invalid_because)}",
        "commit": commit,
        "device": str(environment.pop("device", "") or environment.get("processor") or NOT_AVAILABLE),
        "command": run.command or NOT_AVAILABLE,
        "target": f"{run.target} at {run.url}",
        "loop": f"{run.loop} (load in {load_unit([measured])})",
        "started at": run.started_at,
        **{name.replace("_", " "): _plain(value) for name, value in environment.items()},
        **{f"client: {name.replace('_', ' ')}": _plain(value) for name, value in run.client.items()},
    }


def load_unit(runs: Iterable[Measured]) -> str:
    units = {"streams at once" if m.run.loop == "closed" else "requests a second" for m in runs}
    return " / ".join(sorted(units, reverse=True))


def warnings(runs: Iterable[Measured]) -> tuple[str, ...]:
    return tuple(measured.warning for measured in runs if not measured.is_valid)


def _plain(value: Any) -> str:
    if value is None:
        return NOT_AVAILABLE
    if value == []:
        return "none"
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return f"{len(value)} entries, in the run's file"
    return value if isinstance(value, str) else json.dumps(value)


def _facts(runs: Sequence[Measured]) -> Table:
    columns = [facts(measured) for measured in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [Row((name, *(column.get(name, NOT_AVAILABLE) for column in columns))) for name in names]
    head = ("", *(measured.mark for measured in runs))
    return Table("What was measured", head, tuple(rows), warnings(runs), text_columns=len(head))


def _by_level(title: str, runs: Sequence[Measured], columns: Sequence[Column]) -> Table:
    rows = []
    for measured in runs:
        for level in measured.run.levels:
            cells = (measured.mark, plain(level["level"]), *(column.cell(level) for column in columns))
            rows.append(_whole(cells, measured.is_valid))
        if not measured.run.levels:
            rows.append(_whole((measured.mark, *[NOT_AVAILABLE] * (1 + len(columns))), measured.is_valid))
    head = ("run", f"load ({load_unit(runs)})", *(column.title for column in columns))
    return Table(title, head, tuple(rows), warnings(runs))


def _outcomes(runs: Sequence[Measured]) -> Table:
    columns = (Column("requests", "requests", plain), Column("ok", "ok", plain))
    table = _by_level("Outcomes", runs, columns)
    levels: list[dict[str, Any] | None] = [level for m in runs for level in m.run.levels or (None,)]
    rows = [
        _whole((*row.cells, _errors(level)), not row.invalid) for row, level in zip(table.rows, levels, strict=True)
    ]
    return Table(table.title, (*table.head, "errors"), tuple(rows), table.warnings)


def _errors(level: dict[str, Any] | None) -> str:
    if level is None:
        return NOT_AVAILABLE
    return ", ".join(f"{kind}: {count}" for kind, count in level["errors"].items()) or "none"


def _comparison(runs: Sequence[Measured]) -> Table:
    first, *others = runs
    loads = sorted({level["level"] for measured in runs for level in measured.run.levels})
    rows = [_compared(column, load, runs) for column in COMPARED for load in loads]
    ratios = [title for measured in others for title in (measured.mark, f"ratio to {first.mark}")]
    notes = ["Ratios are to the first run; n/a where either is not measured or the first is 0."]
    if len({measured.run.loop for measured in runs}) > 1:
        notes.append("Streams at once are no requests a second: runs of different loops have no ratio.")
    devices = {measured.label: facts(measured)["device"] for measured in runs}
    if len(set(devices.values()) - {NOT_AVAILABLE}) > 1:
        notes.append("These runs are from different devices.")
    if unknown := [label for label, device in devices.items() if device == NOT_AVAILABLE]:
        notes.append(f"Not known to be from the same device: {', '.join(unknown)}.")
    head = ("figure", "better", "load", first.mark, *ratios)
    return Table("Side by side", head, tuple(rows), warnings(runs), tuple(notes), text_columns=2)


def _compared(column: Column, load: float, runs: Sequence[Measured]) -> Row:
    first, *others = runs
    cells = [column.title, column.better or "-", plain(load), _at(first, load, column)]
    valid = [True, True, True, first.is_valid]
    for measured in others:
        cells += [_at(measured, load, column), _ratio(measured, first, load, column)]
        valid += [measured.is_valid, measured.is_valid and first.is_valid]
    return Row(tuple(cells), frozenset(index for index, is_valid in enumerate(valid) if not is_valid))


def _at(measured: Measured, load: float, column: Column) -> str:
    return next((column.cell(level) for level in measured.run.levels if level["level"] == load), NOT_AVAILABLE)


def _ratio(measured: Measured, first: Measured, load: float, column: Column) -> str:
    values = [
        next((figure(level, column.name) for level in m.run.levels if level["level"] == load), None)
        for m in (measured, first)
    ]
    if measured.run.loop != first.run.loop or values[0] is None or not values[1]:
        return NOT_AVAILABLE
    return f"{values[0] / values[1]:.2f}x"
