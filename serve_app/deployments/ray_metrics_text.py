"""This server's metrics of all nodes, read from Ray's exporters."""

import asyncio
import time
from collections.abc import Iterable

import httpx
import ray

_PREFIX = "ray_csm_"
_KEPT_SECONDS = 2.0
"""Ray's values are older anyway, so frequent scrapes cost nothing."""
_TIMEOUT_SECONDS = 5.0


class RayMetricsText:
    """The metrics in Prometheus' text format, without the hundreds of Ray's own."""

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
    """Several nodes' pages as one: each family once, with the samples of all nodes."""
    families: dict[str, list[str]] = {}
    for page in pages:
        family: list[str] = []
        for line in page.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                # Families of Ray are dropped, and so is the header of a second node.
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
    # Loading certificates, which plain HTTP does not need, would block this process' streams for 30 ms.
    async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False, verify=False) as http:
        pages = await asyncio.gather(*(_page(http, address) for address in addresses))
    return [page for page in pages if page]


async def _page(http: httpx.AsyncClient, address: str) -> str:
    """The page, empty if the node does not answer: the other nodes' metrics are still useful."""
    try:
        return (await http.get(address)).raise_for_status().text
    except httpx.HTTPError:
        return ""
