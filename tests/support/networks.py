"""Machines that this one pretends to be: network namespaces behind a bridge, whose links are cut and lose packets.

Needs root, `ip` and `nft`. The kernel's own way to lose packets, netem, is often not built in; nftables' random numbers
are, and drop each packet on its own in the same way.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest

_BRIDGE = "csm-bridge"
HEAD_IP = "10.217.0.1"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    ip: str

    @property
    def within(self) -> Sequence[str]:
        """Before a command that runs there."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """As a cable that is pulled: nobody is told."""
        _run("ip", "link", "set", self._link, "down")

    def join(self) -> None:
        _run("ip", "link", "set", self._link, "up")

    def lose(self, percent: int) -> None:
        """So many of a hundred packets that come, and of those that go."""
        self._filter(("input", "output"), f"meta l4proto tcp numgen random mod 100 < {percent} drop")

    def say_nothing(self) -> None:
        """Hears all, and is not heard: a half-open link."""
        self._filter(("output",), 'oifname != "lo" drop')

    def heal(self) -> None:
        with suppress(subprocess.CalledProcessError):
            _run(*self.within, "nft", "delete", "table", "inet", "faults")

    def _filter(self, hooks: Sequence[str], rule: str) -> None:
        self.heal()
        nft = (*self.within, "nft")
        _run(*nft, "add", "table", "inet", "faults")
        for hook in hooks:
            _run(*nft, "add", "chain", "inet", "faults", hook, f"{{ type filter hook {hook} priority 0; }}")
            _run(*nft, "add", "rule", "inet", "faults", hook, *rule.split())

    @property
    def _link(self) -> str:
        return f"{self.name}-link"


@contextmanager
def machines(*names: str) -> Iterator[list[Machine]]:
    """So many, which reach each other and HEAD_IP, an address of this one. Skips where namespaces cannot be made."""
    if os.geteuid() or not (shutil.which("ip") and shutil.which("nft")):
        pytest.skip("needs root, ip and nft, to make network namespaces")
    made = [Machine(f"csm-{name}", f"10.217.0.{number}") for number, name in enumerate(names, start=2)]
    try:
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", f"{HEAD_IP}/24", "dev", _BRIDGE)
        _run("ip", "link", "set", _BRIDGE, "up")
        for machine in made:
            _plug_in(machine)
        yield made
    finally:
        for machine in made:
            with suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", machine.name)
        with suppress(subprocess.CalledProcessError):
            _run("ip", "link", "del", _BRIDGE)


def _plug_in(machine: Machine) -> None:
    link, inside = f"{machine.name}-link", ("ip", "-n", machine.name)
    _run("ip", "netns", "add", machine.name)
    _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
    _run("ip", "link", "set", link, "master", _BRIDGE, "up")
    _run(*inside, "addr", "add", f"{machine.ip}/24", "dev", "eth0")
    _run(*inside, "link", "set", "eth0", "up")
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "route", "add", "default", "via", HEAD_IP)
