"""What this process may take of a device's memory."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """What one process may take of a device. `total_bytes` and `unclaimed_bytes` are the whole card's, 0 on a CPU."""

    free_bytes: int
    described: str
    total_bytes: int = 0
    unclaimed_bytes: int = 0

    @property
    def is_card(self) -> bool:
        return self.total_bytes > 0


class CudaMemory(Protocol):
    """The part of `torch.cuda` that is needed here."""

    def mem_get_info(self) -> tuple[int, int]:
        """Free bytes of the card, and all of them."""
        ...

    def set_per_process_memory_fraction(self, fraction: float) -> None: ...


def free_host_bytes(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Physical memory that could be taken without swapping, and no more than a container's limit leaves."""
    meminfo = _fields(proc / "meminfo")
    if "MemAvailable:" in meminfo:
        available = meminfo["MemAvailable:"] * 1024
    else:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min([available, *_left_of_limits(cgroup)]))


def claim_memory(
    device: torch.device,
    fraction: float,
    cuda: CudaMemory = torch.cuda,
    read_host: Callable[[], int] = free_host_bytes,
) -> DeviceMemory:
    """Say what there is. On CUDA torch refuses to take more than `fraction` of the card from here on, so that the
    neighbours' shares are theirs."""
    if device.type != "cuda":
        return DeviceMemory(read_host(), "of this machine's memory")
    # No device is named: torch refuses one without an index here, and both mean the current one.
    cuda.set_per_process_memory_fraction(fraction)
    unclaimed, total = cuda.mem_get_info()
    share = int(total * fraction)
    described = f"engine.memory_fraction {fraction:g} of {shown(total)}"
    if unclaimed < share:
        described = f"less than {described}: others hold {shown(total - unclaimed)}"
    return DeviceMemory(min(unclaimed, share), described, total, unclaimed)


def _left_of_limits(cgroup: Path) -> Iterator[int]:
    """Of the second and the first version of control groups, as a container sees its own."""
    for folder, limit, used in (
        (cgroup, "memory.max", "memory.current"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        if (folder / limit).is_file() and (text := (folder / limit).read_text().strip()) != "max":
            stat = _fields(folder / "memory.stat")
            # Files that were read, such as the checkpoint's, count as used but make way.
            cached = stat.get("inactive_file", 0) + stat.get("active_file", 0)
            yield int(text) - int((folder / used).read_text()) + cached


def _fields(path: Path) -> dict[str, int]:
    """Lines of a name and a number; none where there is no such file."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {words[0]: int(words[1]) for words in map(str.split, lines) if len(words) > 1}


def shown(num_bytes: int) -> str:
    """For people, in powers of ten."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
