"""Draws the README's plot: this server beside a minimal one, on one model, from two result files.

    python -m benchmarks.report.readme_plot

Writes docs/images/versus-light.svg and versus-dark.svg.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.plot_style import SETTINGS

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists())
IMAGES = ROOT / "docs" / "images"
RUNS = {"CSM Serve": "*-cpu-versus-ours.json", "transformers behind FastAPI": "*-cpu-versus-transformers.json"}
"""The two result files that `make bench-versus` writes. The newest of each is drawn."""
_BAR_HEIGHT = 0.36


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours for one of GitHub's two backgrounds. Each plot is transparent."""

    name: str
    text: str
    grid: str
    bars: tuple[str, str]


THEMES = (
    Theme("light", "#1f2328", "#d1d9e0", ("#0072b2", "#9aa4af")),
    Theme("dark", "#f0f6fc", "#3d444d", ("#56b4e9", "#7d8590")),
)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    runs = newest_runs()
    for theme in THEMES:
        save(draw(runs, theme), theme, IMAGES / f"versus-{theme.name}.svg")


def newest_runs() -> dict[str, dict[int, dict[str, Any]]]:
    """For each side, the summary of each level of load by its number of streams."""
    results = ROOT / "benchmarks" / "results"
    newest = {name: max(results.glob(pattern)) for name, pattern in RUNS.items()}
    return {
        name: {level["level"]: level for level in json.loads(path.read_text())["levels"]}
        for name, path in newest.items()
    }


def draw(runs: dict[str, dict[int, dict[str, Any]]], theme: Theme) -> Figure:
    """Two panels of bars: time to first audio, and audio made in a second."""
    with matplotlib.rc_context(_settings(theme)):
        figure = Figure(figsize=(8.2, 2.6))
        first_audio, throughput = figure.subplots(1, 2)
        _bars(first_audio, {name: _figures(levels, "ttfa_ms", "p50") for name, levels in runs.items()}, theme)
        first_audio.set_title("Time to first audio, median ms (less is better)")
        _bars(throughput, {name: _figures(levels, "audio_seconds_per_second") for name, levels in runs.items()}, theme)
        throughput.set_title("Seconds of audio per second (more is better)")
        figure.legend(*first_audio.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def save(figure: Figure, theme: Theme, path: Path) -> None:
    """Without a date, so that equal figures give equal files."""
    with matplotlib.rc_context(_settings(theme)):
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


def label(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def _figures(levels: dict[int, dict[str, Any]], name: str, quantile: str | None = None) -> dict[int, float]:
    return {streams: level[name][quantile] if quantile else level[name] for streams, level in levels.items()}


def _bars(axes: Axes, figures: dict[str, dict[int, float]], theme: Theme) -> None:
    for number, ((name, by_streams), colour) in enumerate(zip(figures.items(), theme.bars, strict=True)):
        places = [place + number * _BAR_HEIGHT for place in range(len(by_streams))]
        bars = axes.barh(places, list(by_streams.values()), _BAR_HEIGHT, color=colour, label=name)
        axes.bar_label(bars, [label(value) for value in by_streams.values()], padding=4, fontsize=9)
    streams = list(next(iter(figures.values())))
    names = [f"{count} stream" if count == 1 else f"{count} streams" for count in streams]
    axes.set_yticks([place + _BAR_HEIGHT / 2 for place in range(len(streams))], names)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.margins(x=0.16)
    axes.grid(visible=False)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.tick_params(left=False)


def _settings(theme: Theme) -> Any:
    colours = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), theme.text)
    return SETTINGS | colours | {"axes.titlesize": 10, "axes.edgecolor": theme.grid, "font.family": "DejaVu Sans"}


if __name__ == "__main__":
    main()
