"""CPU time and memory of a server's processes by what they do, from /proc: nothing depends on the server's help."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")

ROLES = {
    "ServeReplica:csm:Ingress": "ingress",
    "ServeReplica:csm:AudioDecoder": "decoder",
    "ServeReplica:csm:TokenGenerator": "generator",
    "ServeReplica:csm:ContextEncoder": "encoder",
    "ProxyActor": "proxy",
    "HAProxyManager": "proxy",
    "bin/haproxy": "proxy",
    "ServeController": "controller",
    "ServeReplica:csm:JobRunner": "job runner",
    "serve_app.cli": "launcher",
    "gcs_server": "gcs",
    "raylet/raylet": "raylet",
    "dashboard/agent.py": "agent",
    "runtime_env/agent": "agent",
    "log_monitor": "log monitor",
    "ray::IDLE": "idle workers",
    "datapath.bare": "ingress",
}
"""By a part of the title that Ray gives its processes, or of the command line. The bare server is all ingress."""
REST = "rest of ray"


def role_of(command_line: str) -> str:
    return next((role for part, role in ROLES.items() if part in command_line), REST)


def cpu_seconds(root: int) -> dict[str, float]:
    """CPU seconds so far, by role, of a process and all that descend from it."""
    return _by_role(root, _cpu_seconds)


def memory_bytes(root: int) -> dict[str, float]:
    """Resident bytes, by role, of the same. A page that several processes share is divided among them."""
    return _by_role(root, _proportional_bytes)


def _by_role(root: int, of: Callable[[int], float]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for pid in descendants(root, dict(_parents())):
        try:
            total[role_of(_command_line(pid))] += of(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the two looks
    return dict(total)


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """By role; one that appeared meanwhile counts from zero, one whose process ended counts as zero."""
    return {role: max(0.0, seconds - before.get(role, 0.0)) for role, seconds in after.items()}


def machine_busy_seconds() -> float:
    """Of all cores and all that runs on them."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = _PROC.joinpath("stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / _TICKS


def descendants(root: int, parents: Mapping[int, int]) -> list[int]:
    """`root` and everything below it. `parents`: each process's parent."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid, parent in parents.items():
        children[parent].append(pid)
    found, unseen = [], [root]
    while unseen:
        pid = unseen.pop()
        found.append(pid)
        unseen += children[pid]
    return found


def parse_stat(text: str) -> tuple[int, float]:
    """Parent and CPU seconds of a process. Its name stands in brackets and may hold anything."""
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS


def session_members(session: int) -> list[int]:
    """Every process of the session that began with this one."""
    return [pid for pid in _pids(_PROC.iterdir()) if _session(pid) == session]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _parents() -> Iterator[tuple[int, int]]:
    for pid in _pids(_PROC.iterdir()):
        try:
            yield pid, parse_stat((_PROC / str(pid) / "stat").read_text())[0]
        except (FileNotFoundError, ProcessLookupError):
            continue


def _pids(paths: Iterable[Path]) -> Iterator[int]:
    return (int(path.name) for path in paths if path.name.isdigit())


def _cpu_seconds(pid: int) -> float:
    return parse_stat((_PROC / str(pid) / "stat").read_text())[1]


def _proportional_bytes(pid: int) -> float:
    lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _command_line(pid: int) -> str:
    return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
