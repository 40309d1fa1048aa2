"""The facts beside a load test's figures: the client's machine, the workload, and the server by its own word."""

import os
import platform
from typing import Any

import aiohttp

from benchmarks.common import results_file
from benchmarks.load.workloads import Workload

_FACTS = ("model", "device", "dtype", "weights")
_FACTS_SECONDS = 5.0


def environment(workload: Workload, timeout_seconds: float, warm_up_requests: int) -> dict[str, Any]:
    return {
        **results_file.revision(),
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
    """Facts from the server's `/info`. Empty for a server without one."""
    try:
        timeout = aiohttp.ClientTimeout(total=_FACTS_SECONDS)
        async with http.get(url.rstrip("/") + "/info", timeout=timeout) as response:
            facts = await response.json() if response.status == 200 else {}
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {}
    return {name: facts[name] for name in _FACTS if name in facts} if isinstance(facts, dict) else {}
