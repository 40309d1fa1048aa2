"""Rows of text in aligned columns."""

from collections.abc import Sequence
from datetime import datetime

import typer


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns. The first row holds the columns' names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def moment(seconds: float | None) -> str:
    """Unix seconds as local time, - for None."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
