"""What must hold for a cluster.yaml beyond Ray's schema: each check lists what is wrong."""

import re
import subprocess
from collections.abc import Iterator
from typing import Any

from serve_app.deployments.proxy_guard import PROXY_GUARDS
from serve_app.errors import StartupError
from serve_app.preflight.cluster_config import prepared
from tests.support.deploy_files import NODES, ROOT, is_our_image

Cluster = dict[str, Any]

CARDS = {"m7i.xlarge": 0, "m7i.2xlarge": 0, "g6.xlarge": 1, "g6.2xlarge": 1, "g6.12xlarge": 4, "g5.2xlarge": 1}
"""AWS' instance types, by the cards they hold."""
CORES = {"m7i.xlarge": 4, "m7i.2xlarge": 8, "g6.xlarge": 4, "g6.2xlarge": 8, "g6.12xlarge": 48, "g5.2xlarge": 8}
_SECRET = re.compile(r"hf_\w{20}|AKIA\w{12}|://[^/\s:…]+:[^@\s…]+@\w|(PASSWORD|TOKEN|SECRET)=[\w]{8}", re.IGNORECASE)


def ray_takes_it(cluster: Cluster) -> Iterator[str]:
    try:
        prepared(cluster, "cluster.yaml")
    except StartupError as error:
        yield str(error)


def commands_are_bash(cluster: Cluster) -> Iterator[str]:
    for command in _commands(cluster):
        parsed = subprocess.run(["bash", "-n"], input=command, text=True, capture_output=True, check=False)
        if parsed.returncode:
            yield f"{command}: {parsed.stderr}"


def resources_are_the_machines(cluster: Cluster) -> Iterator[str]:
    for name, values in cluster["available_node_types"].items():
        machine = values["node_config"]["InstanceType"]
        if values["resources"].get("GPU", 0) != CARDS[machine]:
            yield f"{name} says {values['resources'].get('GPU', 0)} cards, {machine} has {CARDS[machine]}"
        if values["resources"]["CPU"] > CORES[machine]:
            yield f"{name} says {values['resources']['CPU']} CPUs, {machine} has {CORES[machine]}"


def image_is_of_this_version(cluster: Cluster) -> Iterator[str]:
    if not is_our_image(cluster["docker"]["image"]):
        yield f"{cluster['docker']['image']} is not of this version and the installed Ray"


def head_autoscales(cluster: Cluster) -> Iterator[str]:
    if "--autoscaling-config=~/ray_bootstrap_config.yaml" not in _start(cluster, "head").split():
        yield "the head is started without its autoscaling config"


def head_runs_no_replica(cluster: Cluster) -> Iterator[str]:
    if cluster["available_node_types"][cluster["head_node_type"]]["resources"] != {"CPU": 0}:
        yield "the head has resources"


def cards_come_on_demand(cluster: Cluster) -> Iterator[str]:
    """Spot cards over one that is not taken back."""
    with_cards = [values for values in cluster["available_node_types"].values() if values["resources"].get("GPU")]
    kept = {"InstanceMarketOptions" in values["node_config"]: values.get("min_workers", 0) for values in with_cards}
    if kept != {True: 0, False: 1}:
        yield f"cards that are kept, of spot ones and of others: {kept}"


def one_may_go(cluster: Cluster) -> Iterator[str]:
    if cluster["available_node_types"]["cpu"]["min_workers"] < 2:
        yield "one cpu node carries all connections"


def disks_are_fast(cluster: Cluster) -> Iterator[str]:
    for name, values in cluster["available_node_types"].items():
        if any(disk["Ebs"].get("Throughput", 125) < 500 for disk in values["node_config"]["BlockDeviceMappings"]):
            yield f"{name} takes minutes to unpack the image"


def nodes_know_how_fast_to_report(cluster: Cluster) -> Iterator[str]:
    for node in ("head", "worker"):
        if missing := [
            f"{name}={value}" for name, value in NODES.items() if f"{name}={value}" not in _start(cluster, node)
        ]:
            yield f"{node}: {missing}"


def commands_authenticate(cluster: Cluster) -> Iterator[str]:
    for command in _commands(cluster):
        asks = re.search(r"\b(ray start|csm-serve deploy|serve deploy)\b", command)
        if asks and not re.search(r"\bexport RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=~/", command[: asks.start()]):
            yield f"no RAY_AUTH_MODE=token before {asks[0]}"


def proxies_are_guarded(cluster: Cluster) -> Iterator[str]:
    guards = [f"export {name}={value} " for name, value in PROXY_GUARDS.items()]
    for node in ("head", "worker"):
        before = _start(cluster, node).partition("ray start")[0].replace("\n", " ")
        if not any(guard in before for guard in guards):
            yield f"{node}: the proxy has no guard"


def head_outlives_itself(cluster: Cluster) -> Iterator[str]:
    """By Redis, of which the address comes from outside."""
    command = _start(cluster, "head")
    if "${RAY_REDIS_ADDRESS:?" not in command or "--redis-password=" not in command:
        yield "the head may start without Redis"
    if "RAY_REDIS" in _start(cluster, "worker"):
        yield "workers have no business with Redis"


def nothing_is_open_to_the_world(cluster: Cluster) -> Iterator[str]:
    group = cluster["provider"].get("security_group", {})
    if not group.get("GroupName"):
        yield "Ray's own security group opens SSH to the world"
    for permission in group.get("IpPermissions", []):
        ranges = [*permission.get("IpRanges", []), *permission.get("Ipv6Ranges", [])]
        if any(each.get("CidrIp") == "0.0.0.0/0" or each.get("CidrIpv6") == "::/0" for each in ranges):
            yield f"port {permission.get('FromPort')} is open to the world"
    if "--dashboard-host=127.0.0.1" not in _start(cluster, "head").split():
        yield "the dashboard listens beyond the head itself"


def mounts_are_folders(cluster: Cluster) -> Iterator[str]:
    for local in cluster["file_mounts"].values():
        if not local.startswith("~/") and not (ROOT / local).is_dir():
            yield f"{local} is no folder of the checkout"


def the_app_is_deployed_at_start(cluster: Cluster) -> Iterator[str]:
    deployed = re.findall(r"csm-serve deploy (\S+)", "\n".join(cluster["head_start_ray_commands"]))
    if len(deployed) != 1:
        yield "the head does not deploy one Serve config"
    for path in deployed:
        folder, _, name = path.replace("~", "/home/ray").rpartition("/")
        local = cluster["file_mounts"].get(folder)
        if local is None or not (ROOT / local / name).is_file():
            yield f"{path} comes from no file of the checkout"


def no_secret_stands_in_it(cluster: Cluster) -> Iterator[str]:
    if found := _SECRET.search(str(cluster)):
        yield f"{found[0][:12]}… looks like a secret"


CHECKS = (
    ray_takes_it,
    commands_are_bash,
    resources_are_the_machines,
    image_is_of_this_version,
    head_autoscales,
    head_runs_no_replica,
    cards_come_on_demand,
    one_may_go,
    disks_are_fast,
    nodes_know_how_fast_to_report,
    commands_authenticate,
    proxies_are_guarded,
    head_outlives_itself,
    nothing_is_open_to_the_world,
    mounts_are_folders,
    the_app_is_deployed_at_start,
    no_secret_stands_in_it,
)


def _commands(cluster: Cluster) -> list[str]:
    return [
        command
        for key, value in cluster.items()
        if key.endswith("commands") and isinstance(value, list)
        for command in value
    ]


def _start(cluster: Cluster, node: str) -> str:
    return "\n".join(each for each in cluster[f"{node}_start_ray_commands"] if "ray start" in each)
