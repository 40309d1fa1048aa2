"""How the plots look: colours that the colour-blind tell apart, and words where there is nothing to draw."""

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.input import Measured
from benchmarks.report.tables import warnings

RED = "#b3001b"
"""For invalid runs alone; always beside the word."""
GREY = "#555555"
RUN_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#000000")
"""Okabe and Ito's, less the red and the yellow."""
LINE_STYLES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
SETTINGS: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
    # Letters stay letters: smaller files, and a page that can be searched and read aloud.
    "svg.fonttype": "none",
    "svg.hashsalt": "csm-serve",
}
WIDTH, HEIGHT = 5.2, 3.7


def new_figure(title: str) -> tuple[Figure, Axes]:
    drawing = Figure(figsize=(WIDTH, HEIGHT))
    axes = drawing.subplots()
    axes.set_title(title)
    return drawing, axes


def na_text(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.1, text, transform=axes.transAxes, ha="center", va="bottom", color=GREY)


def legend(drawing: Figure, runs: Sequence[Measured], others: list[Line2D]) -> None:
    """Below the axes: a column of runs by colour, where there are several, beside the other keys."""
    if len(runs) == 1 and runs[0].is_valid:
        if others:
            drawing.legend(handles=others, loc="outside lower center", ncols=len(others))
        return
    keys = [_run_key(measured, colour) for measured, colour in zip(runs, RUN_COLOURS, strict=False)]
    blanks = [Line2D([], [], alpha=0, label=" ") for _ in range(abs(len(keys) - len(others)))]
    left, right = (keys, others + blanks) if len(keys) > len(others) else (keys + blanks, others)
    handles = left + right if others else keys
    texts = drawing.legend(handles=handles, loc="outside lower center", ncols=2 if others else 1).get_texts()
    for text, measured in zip(texts, runs, strict=False):
        text.set_color("black" if measured.is_valid else RED)


def _run_key(measured: Measured, colour: str) -> Line2D:
    return Line2D([], [], color=colour, marker="o" if measured.is_valid else "x", label=short(measured.mark))


def short(mark: str) -> str:
    """The end of a long name tells runs apart more often than its start."""
    return mark if len(mark) <= 40 else f"...{mark[-37:]}"


def warn(drawing: Figure, runs: Sequence[Measured]) -> None:
    """Name the invalid runs in it, with their reasons, in red above the plot."""
    lines = [line for warning in warnings(runs) for line in textwrap.wrap(warning, 66)]
    if lines:
        width, height = drawing.get_size_inches()
        drawing.set_size_inches(width, height + 0.17 * len(lines))
        drawing.suptitle("\n".join(lines), color=RED, fontsize=9, x=0.02, ha="left")
