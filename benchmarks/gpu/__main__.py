"""Every benchmark that wants a GPU, in one command that ends within nine minutes.

    PYTHON=python3 make bench-gpu

Needs torch, transformers and rich, and no network. Each section is a process of its own with a time limit and a file
that grows row by row, so that whatever breaks costs its own section only. A section whose limit does not fit into what
is left of the time is left out, and said so. `--dry-run` rehearses everything on a CPU with the model `tiny`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.common import results_file
from benchmarks.gpu.processes import status_of
from benchmarks.gpu.sections import SECTIONS, Section

_console = Console(width=130)
_PYTHON = (sys.executable, "-m")
_SECONDS = 525.0
"""For all sections together; what is left of nine minutes is for starting up and for the last words."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a section."""

    section: Section
    said: str
    is_failure: bool = False


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, with the model tiny and few steps")
    parser.add_argument("--only", help="sections, comma-separated")
    parser.add_argument("--commit", default="", help="written down where there is no git repository")
    parser.add_argument("--out", type=Path, default=results_file.FOLDER, help="the folder for the results")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for all sections together")
    options = parser.parse_args(arguments)
    wanted = _wanted(parser, options.only)
    if not options.dry_run and not torch.cuda.is_available():
        sys.exit("bench-gpu: torch sees no CUDA device; --dry-run rehearses on a CPU")
    device_name = "rehearsal" if options.dry_run else torch.cuda.get_device_name()
    ends_at = time.monotonic() + options.seconds
    outcomes = []
    for section in wanted:
        path = options.out / results_file.path_for(f"gpu-{section.name}", device_name).name
        outcomes.append(_run(section, options, path, ends_at - time.monotonic()))
        _console.print(f"[bold]{section.name}[/]: {outcomes[-1].said}", highlight=False)
    _console.rule("sections")
    for outcome in outcomes:
        _console.print(f"{outcome.section.name}: {outcome.said}", highlight=False)
    if failures := [outcome.section.name for outcome in outcomes if outcome.is_failure]:
        sys.exit(f"bench-gpu: not complete: {', '.join(failures)}")


def _wanted(parser: argparse.ArgumentParser, only: str | None) -> list[Section]:
    if only is None:
        return list(SECTIONS)
    names = only.split(",")
    known = {section.name: section for section in SECTIONS}
    if unknown := [name for name in names if name not in known]:
        parser.error(f"--only {unknown[0]}: the sections are {', '.join(known)}")
    return [known[name] for name in names]


def _run(section: Section, options: argparse.Namespace, path: Path, seconds_left: float) -> Outcome:
    if missing := [name for name in section.needs if find_spec(name) is None]:
        return Outcome(section, f"left out: {missing[0]} is not installed here")
    if seconds_left < section.limit_seconds:
        return Outcome(
            section,
            f"left out: {max(0.0, seconds_left):.0f} s are left, it may take its limit of "
            f"{section.limit_seconds:.0f} s",
        )
    arguments = [*(section.rehearsal if options.dry_run else section.arguments), "--json", str(path)]
    if options.commit:
        arguments += ["--commit", options.commit]
    began = time.monotonic()
    status = status_of([*_PYTHON, section.module, *arguments], section.limit_seconds)
    took = f"{time.monotonic() - began:.0f} s"
    if status == 0:
        return Outcome(section, f"done in {took}, {path}")
    kept = f"; what it had measured is in {path}" if path.exists() else ""
    if status is None:
        return Outcome(section, f"stopped at its limit of {section.limit_seconds:.0f} s{kept}", is_failure=True)
    return Outcome(section, f"failed with status {status} after {took}{kept}", is_failure=True)


if __name__ == "__main__":
    main()
