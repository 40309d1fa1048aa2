"""The distribution of lateness: how many chunks came later than a player needed them, a panel a run."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from benchmarks.load.timeline import lateness_seconds
from benchmarks.report.input import Measured
from benchmarks.report.plot_style import GREY, RED, WIDTH, na_text, short, warn
from benchmarks.report.tables import load_unit

LINEAR_WITHIN_MS = 100
"""Around the deadline every millisecond counts; far from it, the order of magnitude."""
TICKS_MS = (-100_000, -10_000, -1000, -100, -50, 0, 50, 100, 1000, 10_000, 100_000)
MAX_POINTS = 400


def draw_lateness(runs: Sequence[Measured]) -> Figure:
    drawing = Figure(figsize=(WIDTH, 1.4 + 2.6 * len(runs)))
    panels = drawing.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
    by_run = [_by_level(measured) for measured in runs]
    levels = sorted({level for by_level in by_run for level in by_level})
    spread = matplotlib.colormaps["viridis"].resampled(len(levels) + 1)
    colours = {level: spread(index) for index, level in enumerate(levels)}
    for axes, measured, by_level in zip(panels, runs, by_run, strict=True):
        _draw_panel(axes, by_level, colours)
        alone = len(runs) == 1 and measured.is_valid
        title = "Lateness of chunks against playback" if alone else f"Lateness: {short(measured.mark)}"
        axes.set_title(title, color="black" if measured.is_valid else RED)
    panels[-1].set_xlabel("lateness, ms (right of 0: too late)")
    keys = [Line2D([], [], color=colour, label=f"{level:g}") for level, colour in colours.items()]
    if keys:
        drawing.legend(handles=keys, loc="outside lower center", ncols=6, title=f"load, {load_unit(runs)}")
    warn(drawing, runs)
    return drawing


def _draw_panel(axes: Axes, by_level: dict[float, list[float]], colours: dict[float, Any]) -> None:
    for level, values in sorted(by_level.items()):
        axes.step(*_distribution(values), where="post", color=colours[level], linewidth=1.4)
    if not by_level:
        na_text(axes, "n/a: no stream had a second chunk")
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_xscale("symlog", linthresh=LINEAR_WITHIN_MS, linscale=1.5)
    axes.xaxis.set_major_locator(FixedLocator(TICKS_MS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(ylim=(0, 1.03), ylabel="share of chunks")


def _distribution(values: list[float]) -> tuple[list[float], list[float]]:
    """Values and the share of chunks up to each; thinned, for a page holds every point as text."""
    ordered = sorted(values)
    stride = max(1, len(ordered) // MAX_POINTS)
    ranks = sorted({*range(0, len(ordered), stride), len(ordered) - 1})
    return [ordered[rank] for rank in ranks], [(rank + 1) / len(ordered) for rank in ranks]


def _by_level(measured: Measured) -> dict[float, list[float]]:
    """Of the streams that the summary judges."""
    found: dict[float, list[float]] = defaultdict(list)
    for record in measured.records:
        if not record.warm_up and record.error is None:
            found[record.level] += [seconds * 1000 for seconds in lateness_seconds(record)]
    return {level: values for level, values in found.items() if values}
