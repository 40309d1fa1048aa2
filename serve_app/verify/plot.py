"""Plots as SVG that stands in a page: each value a dot, one row for each side, a line at the median."""

from collections.abc import Sequence
from html import escape
from math import inf
from statistics import median

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP, _BOTTOM = 640, 120, 34, 34, 10, 26
_RADIUS = 4
_TICKS = 5


def dots(title: str, rows: Sequence[tuple[str, Sequence[float]]], unit: str = "", most: float = inf) -> str:
    """`rows`: a label and its values. Rows without values are left empty. The axis ends at `most`."""
    values = [value for _, row in rows for value in row]
    if not values:
        return ""
    low, high = _range(values, most)
    height = _TOP + _ROW * len(rows) + _BOTTOM
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">']
    for number in range(_TICKS + 1):
        value = low + (high - low) * number / _TICKS
        x = _x(value, low, high)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 8}">{value:.3g}{escape(unit)}</text>')
    for number, (label, row) in enumerate(rows):
        parts += _row(label, row, number, low, high)
    return "".join([*parts, "</svg>"])


def _row(label: str, values: Sequence[float], number: int, low: float, high: float) -> list[str]:
    y = _TOP + _ROW * (number + 0.5)
    parts = [f'<text class="label" x="{_LEFT - 12}" y="{y + 4:.1f}">{escape(label)}</text>']
    for index, value in enumerate(values):
        # Equal values would hide one another: they stand at three heights.
        shifted = y + (index % 3 - 1) * _RADIUS
        parts.append(f'<circle class="side{number}" cx="{_x(value, low, high):.1f}" cy="{shifted:.1f}" r="{_RADIUS}"/>')
    if values:
        x = _x(median(values), low, high)
        top, end = y - _ROW * 0.42, y + _ROW * 0.42
        parts.append(f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{end:.1f}"/>')
    return parts


def _range(values: Sequence[float], most: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.5 if low == high else 0.04 * (high - low)
    return low - room, min(high + room, most)


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)
