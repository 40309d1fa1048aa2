"""What a failed start left behind is ended."""

import subprocess
import sys

CODE = """
import subprocess, sys
from serve_app.cli.children import end_children
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
end_children()
print(left.wait(20))
"""


def test_all_children_are_asked_to_end() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "-15", done.stderr
