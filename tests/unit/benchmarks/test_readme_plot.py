"""The README's plot shows what the result files hold, on both backgrounds."""

import re
from xml.etree import ElementTree

import pytest

from benchmarks.report import readme_plot
from benchmarks.report.readme_plot import IMAGES, RUNS, THEMES, Theme, label, read_levels

RESULTS = readme_plot.ROOT / "benchmarks" / "results"


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_the_committed_plot_has_the_figures_of_the_results(theme: Theme) -> None:
    words = [word.strip() for word in ElementTree.parse(IMAGES / f"versus-{theme.name}.svg").getroot().itertext()]
    for name, file in RUNS.items():
        assert name in words
        for level in read_levels(RESULTS / file).values():
            assert label(level["ttfa_ms"]["p50"]) in words, "run python -m benchmarks.report.readme_plot"
            assert label(level["audio_seconds_per_second"]) in words, "run python -m benchmarks.report.readme_plot"


def test_the_readme_describes_the_plot_in_the_same_figures() -> None:
    alt = re.search(r'<img alt="([^"]+)"', (readme_plot.ROOT / "README.md").read_text())
    assert alt is not None
    for file in RUNS.values():
        for level in read_levels(RESULTS / file).values():
            assert label(level["ttfa_ms"]["p50"]) in alt[1]
            assert label(level["audio_seconds_per_second"]) in alt[1]
