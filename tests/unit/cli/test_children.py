"""What a failed start left behind is ended, and nothing else is."""

import subprocess
import sys

from serve_app.cli.children import children, end

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_those_that_came_since_are_asked_to_end() -> None:
    with subprocess.Popen(SLEEP) as before:
        known = children()
        with subprocess.Popen(SLEEP) as since:
            end(children() - known)
            assert since.wait(20) < 0
        assert before.poll() is None
        before.kill()
