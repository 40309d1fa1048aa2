"""Tables, plots and one HTML page of load runs; of two or more, side by side with ratios to the first.

    python -m benchmarks.report RUN.json [RUN2.json ...] --out FOLDER

Each RUN.json needs its records, RUN.jsonl, beside it. Writes report.md, report.html and each plot as PNG and SVG.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from benchmarks.report.input import INVALID, BrokenInput, Measured, load
from benchmarks.report.page import markdown, page
from benchmarks.report.plots import MAX_RUNS, draw_all
from benchmarks.report.tables import tables


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args(arguments)
    if len(options.runs) > MAX_RUNS:
        sys.exit(f"at most {MAX_RUNS} runs fit in one report; got {len(options.runs)}")
    try:
        runs = load(options.runs)
    except BrokenInput as error:
        sys.exit(str(error))
    try:
        _write(runs, options.out)
    except OSError as error:
        sys.exit(f"cannot write the report to {options.out}: {error.strerror}")


def _write(runs: Sequence[Measured], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    title = "Load test: " + " against ".join(measured.mark for measured in runs)
    figures = tables(runs)
    plots = draw_all(runs, folder)
    (folder / "report.md").write_text(markdown(title, figures, plots))
    (folder / "report.html").write_text(page(title, figures, plots))
    text = Text(markdown(title, figures, []))
    text.highlight_words([INVALID], "bold red")
    console = Console(soft_wrap=True)
    console.print(text)
    console.print(f"saved in {folder}: report.md, report.html, {', '.join(plot.name for plot in plots)} (.png, .svg)")
