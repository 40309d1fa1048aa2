"""How long a thread waited for a processor."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from serve_app.engine import kept_waiting
from serve_app.engine.kept_waiting import KeptWaiting


def _busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a thread waited")
def test_a_thread_that_shares_its_processor_is_kept_waiting() -> None:
    waited = []

    def shares_one() -> None:
        one = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {one})
        asked = KeptWaiting()
        assert asked() == 0
        mate = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            os.sched_setaffinity(mate.pid, {one})
            while not waited or sum(waited) < 0.05:  # the mate has to start first
                _busy(0.05)
                waited.append(asked())
        finally:
            mate.kill()
            mate.wait()

    thread = threading.Thread(target=shares_one)
    thread.start()
    thread.join(timeout=60)
    assert sum(waited) >= 0.05


def test_it_is_zero_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept_waiting, "_SCHEDSTAT", tmp_path / "absent")
    asked = KeptWaiting()
    assert [asked(), asked()] == [0, 0]
