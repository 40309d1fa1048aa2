"""Processes that are stopped at a limit, with all that they started."""

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import IO


def status_of(command: Sequence[str], limit_seconds: float, output: IO[str] | None = None) -> int | None:
    """None where it had to be stopped. It and all that it started are gone when this returns."""
    process = subprocess.Popen(command, start_new_session=True, stdout=output, stderr=output)
    try:
        return process.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
