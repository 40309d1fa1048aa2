"""`csm-serve bench`: the load test in a checkout's `benchmarks` folder, which the installed package lacks."""

import sys
from collections.abc import Sequence
from pathlib import Path

from serve_app.errors import StartupError


def run_bench(arguments: Sequence[str]) -> None:
    """Run it with the options of `python -m benchmarks.load`. Raises StartupError outside of a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "benchmarks" / "load").is_dir():
        raise StartupError("bench needs a checkout of the repository: its benchmarks folder is not installed")
    if str(checkout) not in sys.path:
        # First, since other projects have a package called benchmarks too.
        sys.path.insert(0, str(checkout))
    try:
        from benchmarks.load.command import main
    except ModuleNotFoundError as error:
        raise StartupError(f"bench needs {error.name}: make install sets up what a checkout needs") from error
    main(arguments, prog="csm-serve bench")
