"""How much of a device's memory this process may take, and plans of it as tables."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from serve_app.model.device import CudaLimit, limit_memory


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """`free_bytes` is what one process may take. The other sizes are those of the whole card, 0 on a CPU."""

    free_bytes: int
    described: str
    total_bytes: int = 0
    unclaimed_bytes: int = 0
    held_bytes: int = 0
    """What the process held when it asked, for another purpose under the same limit."""

    @property
    def is_card(self) -> bool:
        return self.total_bytes > 0

    def fraction_for(self, num_bytes: int) -> float | None:
        """The share of the card that would hold so much. None where the card lacks it or the limit is for more."""
        if not self.is_card or self.held_bytes or not self.free_bytes < num_bytes <= self.unclaimed_bytes:
            return None
        return math.ceil(100 * num_bytes / self.total_bytes) / 100


@dataclass(frozen=True, slots=True)
class PlanRow:
    name: str
    num_bytes: int


def plan_table(rows: Iterable[PlanRow], memory: DeviceMemory) -> str:
    """Aligned lines: each purpose and its size, and the memory that is available."""
    lines = [(row.name, shown(row.num_bytes)) for row in rows]
    lines.append((f"free for it ({memory.described})", shown(memory.free_bytes)))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}} {size:>10}" for name, size in lines)


class CudaMemory(CudaLimit, Protocol):
    """The part of `torch.cuda` that `claim_memory` needs."""

    def mem_get_info(self) -> tuple[int, int]:
        """Free bytes of the card, and all of them."""
        ...

    def memory_reserved(self) -> int:
        """Bytes that torch holds for this process."""
        ...


def free_host_bytes(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Physical memory that is available without swapping, within the limit of the container."""
    meminfo = _fields(proc / "meminfo")
    if "MemAvailable:" in meminfo:
        available = meminfo["MemAvailable:"] * 1024
    else:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min([available, *_left_of_limits(cgroup)]))


def claim_memory(
    device: torch.device,
    fraction: float,
    setting: str,
    cuda: CudaMemory = torch.cuda,
    read_host: Callable[[], int] = free_host_bytes,
) -> DeviceMemory:
    """How much this process may take. On CUDA that is `fraction` of the card, which torch enforces from here on.

    `setting` names the fraction in what is said about it.
    """
    if device.type != "cuda":
        return DeviceMemory(read_host(), "of this machine's memory")
    limit_memory(device, fraction, cuda)
    unclaimed, total = cuda.mem_get_info()
    share = int(total * fraction)
    described = f"{setting} {fraction:g} of {shown(total)}"
    if held := cuda.memory_reserved():
        share -= held
        described += f", less {shown(held)} that this process holds"
    if unclaimed < share:
        described = f"less than {described}: others hold {shown(total - unclaimed - held)}"
    return DeviceMemory(min(unclaimed, share), described, total, unclaimed, held)


def _left_of_limits(cgroup: Path) -> Iterator[int]:
    """Bytes left below the limits of control groups, version 2 and 1, as a container sees its own."""
    for folder, limit, used in (
        (cgroup, "memory.max", "memory.current"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        if (folder / limit).is_file() and (text := (folder / limit).read_text().strip()) != "max":
            stat = _fields(folder / "memory.stat")
            # Cached files, such as the checkpoint's, count as used, but the kernel drops them when memory is needed.
            cached = stat.get("inactive_file", 0) + stat.get("active_file", 0)
            yield int(text) - int((folder / used).read_text()) + cached


def _fields(path: Path) -> dict[str, int]:
    """Lines of a name and a number. Empty where the file is missing."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {words[0]: int(words[1]) for words in map(str.split, lines) if len(words) > 1}


def shown(num_bytes: int) -> str:
    """A size for people, in powers of ten."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
