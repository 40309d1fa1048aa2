"""What a process may take: its fraction of a card, which then holds, or what a machine and its container leave."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from serve_app.model.device_memory import claim_memory, free_host_bytes

CUDA = torch.device("cuda")
GB = 10**9


class FakeCuda:
    """A card of 80 GB, of which `free_gb` are free."""

    def __init__(self, free_gb: float, held_gb: float = 0) -> None:
        self.free_gb = free_gb
        self.held_gb = held_gb
        self.fraction: float | None = None

    def mem_get_info(self) -> tuple[int, int]:
        assert self.fraction is not None, "the limit must hold before anything is taken"
        return int(self.free_gb * GB), 80 * GB

    def memory_reserved(self) -> int:
        return int(self.held_gb * GB)

    def set_per_process_memory_fraction(self, fraction: float) -> None:
        self.fraction = fraction


def test_a_process_gets_its_fraction_of_the_whole_card_and_torch_holds_it_to_that() -> None:
    cuda = FakeCuda(free_gb=79)
    memory = claim_memory(CUDA, 0.6, "engine.memory_fraction", cuda)
    assert (memory.free_bytes, memory.unclaimed_bytes) == (48 * GB, 79 * GB)
    assert memory.is_card
    assert memory.described == "engine.memory_fraction 0.6 of 80.00 GB"
    assert cuda.fraction == 0.6


def test_what_others_hold_already_is_not_promised_again() -> None:
    memory = claim_memory(CUDA, 0.6, "engine.memory_fraction", FakeCuda(free_gb=30))
    assert memory.free_bytes == 30 * GB
    assert "others hold 50.00 GB" in memory.described


def test_a_codec_beside_a_generator_in_one_process_gets_what_the_generator_leaves_of_both_shares() -> None:
    """No other test claims memory in a process that holds some (`graph: fused`)."""
    memory = claim_memory(CUDA, 0.75, "codec.memory_fraction", FakeCuda(free_gb=35, held_gb=45))
    assert memory.free_bytes == 15 * GB
    assert memory.described == "codec.memory_fraction 0.75 of 80.00 GB, less 45.00 GB that this process holds"
    assert memory.fraction_for(20 * GB) is None, "the limit is the sum of two settings"


def test_a_cpu_has_what_the_machine_has() -> None:
    memory = claim_memory(torch.device("cpu"), 0.6, "engine.memory_fraction", FakeCuda(0), read_host=lambda: 5 * GB)
    assert (memory.free_bytes, memory.is_card) == (5 * GB, False)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8_000_000 * 1024),
        ({"memory.max": "max", "memory.current": "5"}, 8_000_000 * 1024),
        ({"memory.max": str(6 * GB), "memory.current": str(2 * GB)}, 4 * GB),
        ({"memory.max": str(60 * GB), "memory.current": str(2 * GB)}, 8_000_000 * 1024),
        ({"memory.max": str(GB), "memory.current": str(2 * GB)}, 0),
        (
            {
                "memory.max": str(6 * GB),
                "memory.current": str(5 * GB),
                "memory.stat": f"anon 7\ninactive_file {GB}\nactive_file {2 * GB}\n",
            },
            4 * GB,
        ),
        ({"memory/memory.limit_in_bytes": str(3 * GB), "memory/memory.usage_in_bytes": str(GB)}, 2 * GB),
    ],
    ids=["no container", "no limit", "its limit is lower", "its limit is higher", "over it", "cached files", "v1"],
)
def test_a_containers_limit_counts_where_it_is_lower(tmp_path: Path, files: Mapping[str, str], free: int) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal: 9000000 kB\nMemFree: 1 kB\nMemAvailable: 8000000 kB\nHugePages_Free: 0\n")
    for name, text in files.items():
        (cgroup / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroup / name).write_text(text + "\n")
    assert free_host_bytes(proc, cgroup) == free


def test_a_system_without_meminfo_is_taken_at_its_size(tmp_path: Path) -> None:
    assert free_host_bytes(tmp_path, tmp_path) > 2**20


def test_this_machine_has_some() -> None:
    assert free_host_bytes() > 2**20
