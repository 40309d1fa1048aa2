"""Prints requirements.lock for a machine without a card: without CUDA's packages, and torch without its hashes.

    python deploy/cpu_lock.py requirements.lock > cpu.lock
    uv pip sync --torch-backend cpu cpu.lock

PyTorch's own index has torch's CPU build under the same version, and so under other hashes.
"""

import re
import sys
from pathlib import Path

_CUDA = re.compile(r"^(nvidia|cuda)\b")
_OTHER_BUILD = re.compile(r"^torch==")


def cpu_lock(lock: str) -> str:
    """The requirements that are left. Each one reaches from its name to the next line that is not indented."""
    kept = []
    for requirement in re.split(r"^(?=\S)", lock, flags=re.MULTILINE):
        if _CUDA.match(requirement):
            continue
        if _OTHER_BUILD.match(requirement):
            requirement = requirement.partition(" ")[0] + "\n"
        kept.append(requirement)
    return "".join(kept)


if __name__ == "__main__":
    sys.stdout.write(cpu_lock(Path(sys.argv[1]).read_text()))
