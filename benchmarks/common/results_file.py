"""Where measurements are kept, and what must stand beside every figure."""

import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "results"


def write(name: str, device: str, rows: list[dict[str, Any]], command: str) -> Path:
    """Save rows as `<date>-<device>-<name>.json` with what they were measured on and by."""
    path = path_for(name, device)
    save(path, {**context(device, command), "rows": rows})
    return path


def path_for(name: str, device: str) -> Path:
    """In the results' folder, by today's date."""
    return FOLDER / f"{datetime.now(UTC):%Y-%m-%d}-{re.sub(r'[^a-z0-9]+', '-', device.lower())}-{name}.json"


def context(device: str, command: str, commit: str = "") -> dict[str, Any]:
    """What figures were measured on, when and by what; `commit` names it where there is no repository."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results")),
        "command": command,
        "device": device,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def save(path: Path, values: dict[str, Any]) -> None:
    """Whole or not at all: whoever is killed half-way leaves what was saved before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(values, indent=1) + "\n")
    draft.replace(path)


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
