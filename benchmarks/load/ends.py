"""Which answers ended by themselves: asked of the server once all have ended, so that asking disturbs none."""

from collections import defaultdict
from collections.abc import Sequence

import aiohttp

from benchmarks.common.records import Record

_SECONDS = 10.0
_ENDS_THEMSELVES = ("trained", "demo voice")
"""Weights of which that can be said."""


async def shares_ended(
    http: aiohttp.ClientSession, url: str, records: Sequence[Record], weights: object
) -> dict[float, float]:
    """By level: the share of whole answers that needed no rescue and were not cut.

    Our own server's receipts say so. Levels of which nothing is known are missing.
    """
    if weights not in _ENDS_THEMSELVES:
        return {}
    ends: dict[float, list[bool]] = defaultdict(list)
    for record in records:
        if record.warm_up or record.error is not None:
            continue
        found = await _ended(http, url, record.request_id)
        if found is not None:
            ends[record.level].append(found)
    return {level: sum(found) / len(found) for level, found in ends.items()}


async def _ended(http: aiohttp.ClientSession, url: str, request_id: str) -> bool | None:
    """None where no record was kept."""
    try:
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        async with http.get(f"{url.rstrip('/')}/requests/{request_id}/receipt", timeout=timeout) as response:
            receipt = await response.json() if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    if receipt is None:
        return None
    return receipt["finish_reason"] == "eos" and not any(resume["attempt"] for resume in receipt["resumes"])
