"""Where measurements are kept, and what must stand beside every figure."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def write(name: str, device: str, rows: list[dict[str, Any]], command: str) -> Path:
    """Save rows as `<date>-<device>-<name>.json` with what they were measured on and by."""
    now = datetime.now(UTC)
    path = FOLDER / f"{now:%Y-%m-%d}-{device.lower().replace(' ', '-')}-{name}.json"
    values = {
        "measured_at": now.isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results")),
        "command": command,
        "device": device,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "rows": rows,
    }
    FOLDER.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n")
    return path


def processor() -> str:
    """The CPU's own name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    """Empty where there is no repository: a copied tree can be measured too."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        return ""
