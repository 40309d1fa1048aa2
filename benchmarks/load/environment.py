"""What stands beside a load test's figures: the client's machine, what was asked, what the server says it is."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.common import results_file
from benchmarks.load.workloads import Workload

_FACTS = ("model", "device", "dtype", "weights")
_FACTS_SECONDS = 5.0


def environment(workload: Workload, timeout_seconds: float, warm_up_requests: int) -> dict[str, Any]:
    return {
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results")),
        "client_processor": results_file.processor(),
        "client_cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "scenarios": ", ".join(workload.scenarios),
        "seed": workload.seed,
        "conversation_turns": workload.conversation_turns,
        "context_seconds": workload.context_seconds,
        "fresh_context": workload.fresh_context,
        "max_audio_seconds": workload.max_audio_seconds,
        "timeout_seconds": timeout_seconds,
        "warm_up_requests": warm_up_requests,
        "first_audio_includes": "connecting, the prompt and the queue; not the WAV header",
    }


async def server_facts(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """Of a server that has our `/info`; of others nothing is known."""
    try:
        timeout = aiohttp.ClientTimeout(total=_FACTS_SECONDS)
        async with http.get(url.rstrip("/") + "/info", timeout=timeout) as response:
            facts = await response.json() if response.status == 200 else {}
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {}
    return {name: facts[name] for name in _FACTS if name in facts} if isinstance(facts, dict) else {}


def _git(*arguments: str) -> str | None:
    """None where there is no repository: an installed copy can measure too."""
    command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None
