"""Files of measurements, and the facts that stand beside every figure."""

import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).parents[2]
FOLDER = _CHECKOUT / "benchmarks" / "results"


def write(name: str, device: str, rows: list[dict[str, Any]], command: str) -> Path:
    """Save rows as `<date>-<device>-<name>.json` with what they were measured on and by."""
    path = path_for(name, device)
    save(path, {**context(device, command), "rows": rows})
    return path


def path_for(name: str, device: str) -> Path:
    """A path in the results' folder, by today's date."""
    return FOLDER / f"{datetime.now(UTC):%Y-%m-%d}-{re.sub(r'[^a-z0-9]+', '-', device.lower())}-{name}.json"


def context(device: str, command: str, commit: str = "") -> dict[str, Any]:
    """When, where and by which command figures were measured. `commit` names the commit outside of a repository."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **revision(commit),
        "command": command,
        "device": device,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def revision(commit: str = "") -> dict[str, Any]:
    """The commit of the checkout, and whether files beside results differ from it. Empty outside of a repository."""
    return {
        "commit": commit or _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results")),
    }


def save(path: Path, values: dict[str, Any]) -> None:
    """Write the file whole or not at all. A process that is killed meanwhile leaves the earlier file."""
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
    """Its output, empty outside of a repository: a copied tree can be measured too."""
    command = ["git", "-C", str(_CHECKOUT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        return ""
