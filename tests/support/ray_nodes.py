"""A Ray cluster of several nodes on this machine, each started by `ray start` as on a machine of its own, with ports
and a folder that no other Ray uses. What was started is known by a variable in its environment, so nothing else is
stopped."""

import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.ray_server import free_port
from tests.support.server_process import BIN, environment

MARK = "CLUSTER_OF_TEST"
_KEEP_UP = ("/bin/sh", "-c", 'until "$@"; do sleep 1; done', "sh")
_TOO_SLOW = b"timed out during startup"
_TRIES = 3
"""Ray gives up a node that did not start within 30 s, as on a busy machine."""


@dataclass(frozen=True, slots=True)
class RayCluster:
    """`folder` is short: Ray puts sockets under it, whose paths may have 107 characters."""

    folder: Path
    ip: str
    gcs_port: int
    dashboard_port: int
    http_port: int
    env: dict[str, str]

    @property
    def url(self) -> str:
        """Where Serve listens."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def gcs_address(self) -> str:
        return f"{self.ip}:{self.gcs_port}"

    def start_head(self, *options: str, **env: str) -> None:
        # Where nodes of a lost head go on, Ray would take that head for running: on its own machine it sees none.
        Path(f"{self.folder}/ray/ray_current_cluster").unlink(missing_ok=True)
        dashboard = ["--include-dashboard=true", f"--dashboard-port={self.dashboard_port}"]
        head = ["--head", f"--port={self.gcs_port}", f"--ray-client-server-port={free_port()}", *dashboard]
        for _ in range(_TRIES):
            starting = self._start("head", [*head, f"--temp-dir={self.folder}/ray", *options], env)
            until(lambda p=starting: p.poll() is not None or self._is_answering(), "the head answers")
            if starting.poll() is None:
                return
            self.kill("head")
        raise AssertionError(f"Ray's head does not start: {(self.folder / 'head.log').read_text()[-2000:]}")

    def _is_answering(self) -> bool:
        return self._ask("GET", "/api/version").is_success

    def start_node(self, name: str, *options: str, within: Sequence[str] = (), is_kept_up: bool = False) -> None:
        """`within`: what the command runs in, such as a network namespace. `is_kept_up`: it is started again when it
        ends, as by a service manager, until it is killed here."""
        command = [f"--address={self.gcs_address}", *options]
        if is_kept_up:
            self._start(name, command, {}, (*within, *_KEEP_UP))
        else:
            threading.Thread(target=self._run_node, args=(name, command, within), daemon=True).start()

    def _run_node(self, name: str, command: list[str], within: Sequence[str]) -> None:
        """Until it ends; anew where Ray gave it up."""
        log = self.folder / f"{name}.log"
        for _ in range(_TRIES):
            begins = log.stat().st_size if log.exists() else 0
            self._start(name, command, {}, within).wait()
            if not log.exists() or _TOO_SLOW not in log.read_bytes()[begins:]:
                return
            self.kill(name)

    def _start(
        self, name: str, options: list[str], env: dict[str, str], within: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        command = [
            *within,
            str(BIN / "ray"),
            "start",
            "--block",
            f"--dashboard-agent-listen-port={free_port()}",
            *options,
        ]
        common = ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000"]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *common],
                env=self.env | {MARK: f"{self.folder}/{name}"} | env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self, name: str = "") -> list[psutil.Process]:
        """All of a node, or of the cluster."""
        return [process for process in psutil.process_iter() if _mark(process).startswith(f"{self.folder}/{name}")]

    def kill(self, name: str = "") -> None:
        """As when its machine loses power: nobody ends in order."""
        while killed := self.processes(name):
            for process in killed:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(killed, timeout=10)

    def deploy(self, config: dict[str, Any]) -> None:
        """What `serve deploy` sends. Again where the dashboard of a busy machine closes the connection unanswered."""

        def is_taken() -> bool:
            answer = self._ask("PUT", "/api/serve/applications/", json=config)
            assert answer.is_success or answer.is_server_error, answer.text
            return answer.is_success

        until(is_taken, "Serve takes the config", 120)

    def deployments(self) -> dict[str, Any]:
        """Of the only application, by name, as `serve status` has them."""
        details = self._ask("GET", "/api/serve/applications/").raise_for_status().json()
        (application,) = details["applications"].values()
        return application["deployments"]

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        token = self.env.get("RAY_AUTH_TOKEN")
        shown = {"Authorization": f"Bearer {token}"} if token else {}  # httpx sends no header that ends with a space
        return httpx.request(method, f"{self.dashboard}{path}", headers=shown, timeout=60, **more)

    def num_replicas(self, deployment: str) -> int:
        return sum(replica["state"] == "RUNNING" for replica in self.deployments()[deployment]["replicas"])

    def num_nodes(self, resource: str) -> int:
        """Living ones that have it."""
        answer = self._ask("GET", "/api/v0/nodes", params={"detail": "true"}).raise_for_status()
        nodes = answer.json()["data"]["result"]["result"]
        return sum(node["state"] == "ALIVE" and node["resources_total"].get(resource, 0) > 0 for node in nodes)

    def drain(self, resource: str, seconds: int) -> None:
        """Drain the node that has it, as `csm-serve watch-spot` does on the node itself."""
        answer = self._ask("GET", "/api/v0/nodes", params={"detail": "true"}).raise_for_status()
        nodes = answer.json()["data"]["result"]["result"]
        (node_id,) = [
            node["node_id"] for node in nodes if node["resources_total"].get(resource) and node["state"] == "ALIVE"
        ]
        command = [str(BIN / "ray"), "drain-node", f"--address={self.gcs_address}", f"--node-id={node_id}"]
        reason = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=test"]
        subprocess.run(
            [*command, *reason, f"--deadline-remaining-seconds={seconds}"],
            env=self.env,
            check=True,
            timeout=60,
            capture_output=True,
        )


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get(MARK, "")
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


@contextmanager
def ray_cluster(data_dir: Path, ip: str = "", **env: str) -> Iterator[RayCluster]:
    """Nothing runs yet; on leaving, all that was started in it is killed. `ip`: the head's, if not the usual."""
    import ray

    folder = Path(tempfile.mkdtemp(prefix="csm-", dir="/tmp"))
    address = ip or ray.util.get_node_ip_address()
    # Ray's workers take theirs from the environment of the node's first process.
    own = environment(data_dir, RAY_USAGE_STATS_ENABLED="0", **env)
    del own["RAY_ADDRESS"]
    cluster = RayCluster(folder, address, free_port(), free_port(), free_port(), own)
    try:
        yield cluster
    finally:
        cluster.kill()
        shutil.rmtree(folder, ignore_errors=True)


def until(holds: Callable[[], bool], what: str, seconds: float = 180) -> float:
    """How long it took; a server that cannot be reached yet counts as no."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        with suppress(httpx.TransportError, httpx.HTTPStatusError):
            if holds():
                return time.monotonic() - started
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:.0f} seconds: {what}")
