"""Fails when the engine lost ground on transformers: the ratios of this run against the stored baseline.

    python -m benchmarks.common.regression [--accept] [RESULT.json ...]

A ratio is transformers' time for a frame over ours, both taken in turn in one run of benchmarks.engine.step, so that
the machine's mood falls on both; absolute times are never judged. Without files named, the results of this run are
read: the newest, and those of its commit that were measured within the hour. `--accept` makes the newest results, of
whatever age, the baseline; rows of devices that they do not cover stay.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from benchmarks.common.ratios import (
    UNCOMMITTED,
    BrokenResult,
    Key,
    Ratio,
    newest,
    read_baseline,
    read_results,
    write_baseline,
)

BASELINE = Path(__file__).parents[1] / "baseline.json"
TOLERANCE = 0.2
"""The share of a ratio that may be lost. Runs of tiny and small on two shared, moderately busy cores spread by up to
10 %, so noise does not fail, and a loss of 30 % under noise that flatters by 10 % is still one of 23 %. With four jobs
a core transformers suffers more than we do and the ratio rises by 60 %: neither judge nor accept there."""
THIS_RUN = timedelta(hours=1)
LOST = "lost"
GAINED = "gained: accept it, or the machine is busy"
_console = Console(width=130)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULT.json")
    parser.add_argument("--accept", action="store_true", help="make these results the baseline")
    options = parser.parse_args(arguments)
    try:
        found = read_results(options.results or sorted(results_file.FOLDER.glob("*engine-step*.json")))
        if options.accept:
            _accept(found)
        else:
            _compare(found if options.results else _of_this_run(found, datetime.now(UTC)))
    except BrokenResult as error:
        sys.exit(str(error))


def _of_this_run(found: Sequence[Ratio], now: datetime) -> list[Ratio]:
    """A result that came with the repository proves nothing about the code that stands here."""
    fresh = [ratio for ratio in found if now - ratio.measured_at <= THIS_RUN]
    if not fresh:
        raise BrokenResult("no engine-step result is of the last hour: run python -m benchmarks.engine.step first")
    commit = max(fresh, key=lambda ratio: ratio.measured_at).commit.removesuffix(UNCOMMITTED)
    return [ratio for ratio in fresh if ratio.commit.removesuffix(UNCOMMITTED) == commit]


def _accept(found: Sequence[Ratio]) -> None:
    if not found:
        raise BrokenResult("there is no engine-step result to accept: run python -m benchmarks.engine.step first")
    accepted = newest(found)
    kept = newest(read_baseline(BASELINE)) if BASELINE.exists() else {}
    write_baseline(BASELINE, (kept | accepted).values())
    _console.print(f"{len(accepted)} ratios accepted into {BASELINE.name}, {len(kept.keys() - accepted)} kept")


def _compare(found: Sequence[Ratio]) -> None:
    baseline, now = newest(read_baseline(BASELINE)), newest(found)
    table = Table(title=f"Times as fast as transformers; at most {TOLERANCE:.0%} may be lost", title_justify="left")
    for name in ("preset", "dtype", "batch", "kv", "device", "baseline", "now", "change", "verdict"):
        right = name in ("batch", "kv", "baseline", "now", "change")
        table.add_column(name, justify="right" if right else "left", no_wrap=name == "verdict")
    losses = []
    for key in sorted(baseline.keys() | now.keys()):
        verdict = _verdict(key, baseline, now)
        what = (key.preset, key.dtype, str(key.batch), str(key.kv), key.device)
        table.add_row(*what, *_figures(baseline.get(key), now.get(key)), verdict)
        if verdict == LOST:
            losses.append(_loss(baseline[key], now[key]))
    _console.print(table)
    compared = len(baseline.keys() & now.keys())
    _console.print(f"compared {compared} of {len(baseline.keys() | now.keys())} ratios")
    if not compared:
        _console.print("[bold]nothing was compared: this is no pass[/]; --accept makes these results the baseline")
    if losses:
        sys.exit("\n".join(losses))


def _verdict(key: Key, baseline: dict[Key, Ratio], now: dict[Key, Ratio]) -> str:
    if key in baseline and key in now:
        change = _change(baseline[key], now[key])
        return LOST if change < -TOLERANCE else GAINED if change > TOLERANCE else "holds"
    if key in baseline:
        return f"not compared: {_elsewhere(key, now) or 'not measured in this run'}"
    return f"not compared: {_elsewhere(key, baseline) or 'no baseline'}"


def _elsewhere(key: Key, others: Iterable[Key]) -> str | None:
    alike = [other for other in others if other.what == key.what]
    return "another device" if alike else None


def _change(before: Ratio, after: Ratio) -> float:
    return after.ratio / before.ratio - 1


def _figures(before: Ratio | None, after: Ratio | None) -> tuple[str, str, str]:
    return (
        f"{before.ratio:.2f}" if before else "n/a",
        f"{after.ratio:.2f}" if after else "n/a",
        f"{_change(before, after):+.0%}" if before and after else "n/a",
    )


def _loss(before: Ratio, after: Ratio) -> str:
    return (
        f"{after.key.what}: {after.ratio:.2f} times as fast as transformers, "
        f"was {before.ratio:.2f} at {before.commit} ({_change(before, after):.0%}, at most -{TOLERANCE:.0%} is noise)"
    )


if __name__ == "__main__":
    main()
