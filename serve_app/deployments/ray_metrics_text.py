"""This server's metrics of all nodes, from where Ray's own agents offer them to Prometheus."""

import asyncio
import time
from collections.abc import Iterable

import httpx
import ray

_PREFIX = "ray_csm_"
_KEPT_SECONDS = 2.0
"""Ray's values are older than that anyway; whoever asks more often costs nothing."""
_TIMEOUT_SECONDS = 5.0


class RayMetricsText:
    """Prometheus' text format, our own families only: Ray has hundreds of others at the same addresses."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._text = ""
        self._read_at = -_KEPT_SECONDS

    async def __call__(self) -> str:
        async with self._lock:
            if time.monotonic() - self._read_at >= _KEPT_SECONDS:
                pages = await _pages(await asyncio.to_thread(_addresses))
                self._text = await asyncio.to_thread(merged, pages)
                self._read_at = time.monotonic()
        return self._text


def merged(pages: Iterable[str]) -> str:
    """One page of several nodes' pages: each family once, with everybody's samples."""
    families: dict[str, list[str]] = {}
    for page in pages:
        family: list[str] = []
        for line in page.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                # Not kept where it is not ours, and a second node's header is dropped.
                family = families.get(name, []) if name.startswith(_PREFIX) else []
                if name.startswith(_PREFIX) and name not in families:
                    family = families[name] = [line]
            elif not line.startswith("# TYPE ") or len(family) == 1:
                family.append(line)
    return "".join(f"{line}\n" for family in families.values() for line in family)


def _addresses() -> list[str]:
    return [
        f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for node in ray.nodes()
        if node["Alive"]
    ]


async def _pages(addresses: Iterable[str]) -> list[str]:
    # To read the certificates that plain HTTP has no use for would hold up this process' streams for 30 ms.
    async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False, verify=False) as http:
        pages = await asyncio.gather(*(_page(http, address) for address in addresses))
    return [page for page in pages if page]


async def _page(http: httpx.AsyncClient, address: str) -> str:
    """Empty where a node does not answer: the others' metrics are still worth having."""
    try:
        return (await http.get(address)).raise_for_status().text
    except httpx.HTTPError:
        return ""
