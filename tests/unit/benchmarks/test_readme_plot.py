"""The README's plot shows the newest results, on both backgrounds, and the README describes it in the same figures."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from benchmarks.report.readme_plot import IMAGES, ROOT, THEMES, Theme, label, newest_runs

REDRAW = "run python -m benchmarks.report.readme_plot, and put the figures into README.md"


def figures() -> Iterator[str]:
    for levels in newest_runs().values():
        for level in levels.values():
            yield label(level["ttfa_ms"]["p50"])
            yield label(level["audio_seconds_per_second"])


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_the_committed_plot_has_the_figures_of_the_newest_results(theme: Theme) -> None:
    words = [word.strip() for word in ElementTree.parse(IMAGES / f"versus-{theme.name}.svg").getroot().itertext()]
    assert set(newest_runs()) <= set(words), REDRAW
    assert set(figures()) <= set(words), REDRAW


def test_the_readme_describes_the_plot_in_the_same_figures() -> None:
    alt = re.search(r'<img alt="([^"]+)"', (ROOT / "README.md").read_text())
    assert alt is not None
    assert set(figures()) <= set(re.findall(r"\d[\d,.]*\d|\d", alt[1])), REDRAW
