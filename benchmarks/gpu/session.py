"""A session with a borrowed card: right or wrong first, then figures, within nine minutes, on one page.

    PYTHON=python3 make gpu-session COMMIT=$(git rev-parse --short HEAD)

Sections run in order, each a process of its own that is stopped at its limit. One whose limit does not fit into what is
left is left out. `--dry-run` rehearses all of it on a CPU with the model `tiny`.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common import results_file
from benchmarks.gpu.page import Done, page
from benchmarks.gpu.processes import status_of
from benchmarks.gpu.session_sections import ASKED, Asked

_SECONDS = 525.0
_NO_TESTS = 5
"""pytest's status where all of a file was left out, as without a card."""
_KEPT_LINES = 40
_SLOWER_ON_A_CPU = 3
"""A section of a rehearsal may take so many times its limit: two cores compile what sixteen do."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, with the model tiny")
    parser.add_argument("--commit", default="", help="written down where there is no git repository")
    parser.add_argument("--out", type=Path, default=results_file.FOLDER, help="the folder for figures and the page")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for all sections together")
    options = parser.parse_args(arguments)
    if not options.dry_run and not torch.cuda.is_available():
        sys.exit("gpu-session: torch sees no CUDA device; --dry-run rehearses on a CPU")
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TRITON_CACHE_DIR", str(options.out / "triton"))
    ends_at = time.monotonic() + options.seconds
    done, measured = [], {one.name: options.out / f"gpu-session-{one.name}.json" for one in ASKED if one.measures}
    written = options.out / "gpu-session.md"
    for asked in ASKED:
        done.append(_run(asked, options, measured.get(asked.name), ends_at - time.monotonic()))
        # After each, so that a session that is cut off leaves its page.
        written.write_text(page(done, measured, options.dry_run))
        print(f"{asked.name}: {done[-1].outcome}", flush=True)  # noqa: T201 - a program on a bare machine
    print(written)  # noqa: T201
    if any(one.is_failure for one in done):
        sys.exit("gpu-session: not complete: " + ", ".join(one.name for one in done if one.is_failure))


def _run(asked: Asked, options: argparse.Namespace, path: Path | None, seconds_left: float) -> Done:
    limit_seconds = asked.limit_seconds * (_SLOWER_ON_A_CPU if options.dry_run else 1)
    if seconds_left < limit_seconds:
        return Done(asked.name, f"left out: {max(0.0, seconds_left):.0f} s are left", False, 0)
    command = [sys.executable, "-m", asked.module, *(asked.rehearsal if options.dry_run else asked.arguments).split()]
    if path is not None:
        path.unlink(missing_ok=True)
        command += ["--json", str(path), *(["--commit", options.commit] if options.commit else [])]
    log = options.out / f"gpu-session-{asked.name}.log"
    began = time.monotonic()
    with log.open("w") as output:
        status = status_of(command, limit_seconds, output)
    lines = "\n".join(log.read_text(errors="replace").splitlines()[-_KEPT_LINES:])
    seconds = time.monotonic() - began
    if status is None:
        return Done(asked.name, f"stopped at its limit of {limit_seconds:.0f} s", True, seconds, lines)
    if status in (0, _NO_TESTS if not asked.measures else 0):
        return Done(asked.name, "done", False, seconds, lines)
    return Done(asked.name, f"failed with status {status}, see {log.name}", True, seconds, lines)


if __name__ == "__main__":
    main()
