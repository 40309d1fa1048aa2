"""The report's plots, each as PNG and SVG. A figure is as wide as a phone, so that its letters stay legible there.

Colour says which run, line style which percentile. An invalid run is named in red and drawn with crosses; N/A leaves a
gap and says so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from benchmarks.report.input import Measured, figure
from benchmarks.report.lateness_plot import draw_lateness
from benchmarks.report.plot_style import GREY, LINE_STYLES, RUN_COLOURS, SETTINGS, legend, na_text, new_figure, warn
from benchmarks.report.tables import load_unit

MAX_RUNS = len(RUN_COLOURS)
LOG_FROM = 20
"""A range wider than this, largest over smallest, is drawn on a logarithmic axis."""
MAX_TICKS = 10


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawn plot, and what it shows in words."""

    name: str
    title: str
    png: Path
    svg: Path


@dataclass(frozen=True, slots=True)
class LoadPlot:
    """Figures of the levels' summaries against load."""

    name: str
    title: str
    y_label: str
    figures: tuple[tuple[str, str], ...]
    """The name of each figure in a level, and in the legend."""
    is_share: bool = False
    reference: tuple[float, str] | None = None
    """A line to read the others against."""


LOAD_PLOTS = (
    LoadPlot(
        "ttfa",
        "Time to first audio against load",
        "time to first audio, ms",
        (("ttfa_ms.p50", "p50"), ("ttfa_ms.p95", "p95"), ("ttfa_ms.p99", "p99")),
    ),
    LoadPlot(
        "continuity",
        "Continuity against load",
        "share of judged streams",
        (
            ("continuity.c50", "up to 50 ms late"),
            ("continuity.c100", "up to 100 ms late"),
            ("continuity.c200", "up to 200 ms late"),
        ),
        is_share=True,
    ),
    LoadPlot(
        "rtf",
        "Real-time factor against load",
        "real-time factor, s/s",
        (("rtf.p50", "p50"), ("rtf.p95", "p95"), ("rtf.p99", "p99")),
        reference=(1.0, "real time"),
    ),
    LoadPlot(
        "throughput",
        "Throughput against load",
        "throughput, audio s/s",
        (("audio_seconds_per_second", "audio s/s"),),
    ),
)


def draw_all(runs: Sequence[Measured], folder: Path) -> list[Plot]:
    """Draw every plot of the report into `folder`."""
    with matplotlib.rc_context(SETTINGS):
        drawn = [_save(folder, plot.name, plot.title, _draw(plot, runs)) for plot in LOAD_PLOTS]
        drawn.append(_save(folder, "memory", "Server memory over time", _memory(runs)))
        drawn.append(_save(folder, "lateness", "Lateness of chunks against playback", draw_lateness(runs)))
    return drawn


def _save(folder: Path, name: str, title: str, drawing: Figure) -> Plot:
    plot = Plot(name, title, folder / f"{name}.png", folder / f"{name}.svg")
    drawing.savefig(plot.png, dpi=200)
    # Without a date or a creator the same figures give the same file, and matplotlib writes no metadata block.
    drawing.savefig(plot.svg, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return plot


def _draw(plot: LoadPlot, runs: Sequence[Measured]) -> Figure:
    drawing, axes = new_figure(plot.title)
    for measured, colour in zip(runs, RUN_COLOURS, strict=False):
        for (name, _), style in zip(plot.figures, LINE_STYLES, strict=False):
            _draw_line(axes, measured, name, colour, style)
    if plot.reference:
        axes.axhline(plot.reference[0], color=GREY, linewidth=1, zorder=1)
    _scale(axes, plot, runs)
    _mark_missing(axes, plot, runs)
    axes.set(xlabel=f"load, {load_unit(runs)}", ylabel=plot.y_label)
    _legend(drawing, plot, runs)
    warn(drawing, runs)
    return drawing


def _levels(measured: Measured) -> list[dict[str, Any]]:
    return sorted(measured.run.levels, key=lambda level: level["level"])


def _draw_line(axes: Axes, measured: Measured, name: str, colour: str, style: Any) -> None:
    values = [figure(level, name) for level in _levels(measured)]
    axes.plot(
        [level["level"] for level in _levels(measured)],
        [math.nan if value is None else value for value in values],
        color=colour,
        linestyle=style,
        marker="o" if measured.is_valid else "x",
    )


def _scale(axes: Axes, plot: LoadPlot, runs: Sequence[Measured]) -> None:
    loads = sorted({level["level"] for measured in runs for level in measured.run.levels})
    every = [figure(level, name) for m in runs for level in m.run.levels for name, _ in plot.figures]
    values = [value for value in every if value is not None]
    if _is_wide(loads):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if 0 < len(loads) <= MAX_TICKS:
        axes.set_xticks(loads, [f"{load:g}" for load in loads])
    if plot.is_share:
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif _is_wide(values, LOG_FROM):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(bottom=0)


def _is_wide(values: Sequence[float], times: float = 4) -> bool:
    return len(values) > 2 and min(values) > 0 and max(values) / min(values) >= times


def _mark_missing(axes: Axes, plot: LoadPlot, runs: Sequence[Measured]) -> None:
    """Where any of a run's figures is N/A at a load, say so there."""
    if not any(measured.run.levels for measured in runs):
        na_text(axes, "n/a: no load was measured")
    for row, (measured, colour) in enumerate(zip(runs, RUN_COLOURS, strict=False)):
        for level in _levels(measured):
            if any(figure(level, name) is None for name, _ in plot.figures):
                axes.annotate(
                    "n/a", (level["level"], 0), xycoords=("data", "axes fraction"), color=colour,
                    xytext=(0, 4 + 12 * row), textcoords="offset points", ha="center",
                )  # fmt: skip


def _legend(drawing: Figure, plot: LoadPlot, runs: Sequence[Measured]) -> None:
    keys: list[Line2D] = []
    if len(plot.figures) > 1:
        colour = RUN_COLOURS[0] if len(runs) == 1 else GREY
        for (_, label), style in zip(plot.figures, LINE_STYLES, strict=False):
            keys.append(Line2D([], [], color=colour, linestyle=style, label=label))
    if plot.reference:
        keys.append(Line2D([], [], color=GREY, linewidth=1, label=plot.reference[1]))
    legend(drawing, runs, keys)


def _memory(runs: Sequence[Measured]) -> Figure:
    drawing, axes = new_figure("Server memory over time")
    for measured, colour in zip(runs, RUN_COLOURS, strict=False):
        axes.plot(
            [at for at, _ in measured.run.memory_mb],
            [megabytes for _, megabytes in measured.run.memory_mb],
            color=colour,
        )
    missing = [measured.label for measured in runs if not measured.run.memory_mb]
    if missing:
        na_text(axes, f"n/a for {', '.join(missing)}:\nthe server's process could not be seen")
    axes.set(xlabel="time into the run, s", ylabel="resident memory, MB")
    axes.set_ylim(bottom=0)
    legend(drawing, runs, [])
    warn(drawing, runs)
    return drawing
