"""cluster.yaml: what Ray's validation does not see is checked, and each check finds what it is for."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer, get_nodes_for

from serve_app import __version__
from serve_app.errors import StartupError
from serve_app.preflight.check import check_config
from serve_app.preflight.cluster_config import nodes_of, prepared
from tests.support import cluster_checks as checks
from tests.support.cluster_checks import Cluster
from tests.support.deploy_files import CLUSTER, SERVE_CONFIG, read, replicas


@pytest.fixture
def cluster() -> Cluster:
    return read(CLUSTER)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_wrong_with_it(check: Callable[[Cluster], Iterator[str]], cluster: Cluster) -> None:
    assert list(check(cluster)) == []


def test_no_secret_stands_in_its_text() -> None:
    assert list(checks.no_secret_stands_in_it({"text": CLUSTER.read_text()})) == []


def changed(path: str, value: Any) -> Callable[[Cluster], None]:
    """Set what stands at a dotted path."""

    def change(cluster: Cluster) -> None:
        *above, last = path.split("/")
        for key in above:
            cluster = cluster[key]
        cluster[last] = value

    return change


def replaced(node: str, old: str, new: str) -> Callable[[Cluster], None]:
    """In the commands that start a node."""

    def change(cluster: Cluster) -> None:
        commands = cluster[f"{node}_start_ray_commands"]
        assert any(old in command for command in commands)
        commands[:] = [command.replace(old, new) for command in commands]

    return change


OPEN = [{"FromPort": 8265, "ToPort": 8265, "IpProtocol": "tcp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
MISTAKES = {
    "an unknown key": (checks.ray_takes_it, changed("max_worker", 3)),
    "half a card": (checks.ray_takes_it, changed("available_node_types/gpu_spot/resources/GPU", 0.5)),
    "an unknown head": (checks.ray_takes_it, changed("head_node_type", "haed")),
    "an open quote": (checks.commands_are_bash, replaced("worker", "ray start", "ray 'start")),
    "a loop without end": (checks.commands_are_bash, changed("setup_commands", ["while true; do"])),
    "cards too many": (checks.resources_are_the_machines, changed("available_node_types/gpu_spot/resources/GPU", 4)),
    "a machine without a card": (
        checks.resources_are_the_machines,
        changed("available_node_types/gpu_on_demand/node_config/InstanceType", "m7i.2xlarge"),
    ),
    "cores too many": (checks.resources_are_the_machines, changed("available_node_types/cpu/resources/CPU", 9)),
    "an older Ray": (
        checks.image_is_of_this_version,
        changed("docker/image", f"host/csm-serve:{__version__}-ray2.59.0"),
    ),
    "an older release": (
        checks.image_is_of_this_version,
        changed("docker/image", f"host/csm-serve:0.1.0-ray{ray.__version__}"),
    ),
    "any image": (checks.image_is_of_this_version, changed("docker/image", "host/csm-serve:latest")),
    "no autoscaler": (checks.head_autoscales, replaced("head", "--autoscaling-config", "--config")),
    "a head that works": (checks.head_runs_no_replica, changed("available_node_types/head/resources", {"CPU": 4})),
    "a card kept": (checks.cards_come_on_demand, changed("available_node_types/gpu_spot/min_workers", 1)),
    "no floor": (checks.cards_come_on_demand, changed("available_node_types/gpu_on_demand/min_workers", 0)),
    "one cpu node": (checks.one_may_go, changed("available_node_types/cpu/min_workers", 1)),
    "a slow disk": (
        checks.disks_are_fast,
        changed("available_node_types/gpu_spot/node_config/BlockDeviceMappings", [{"Ebs": {"VolumeType": "gp3"}}]),
    ),
    "slow reports": (checks.nodes_know_how_fast_to_report, replaced("worker", "_PUSH_INTERVAL_S=2", "_S=2")),
    "a short patience": (
        checks.nodes_know_how_fast_to_report,
        replaced("worker", "RAY_gcs_rpc_server_reconnect_timeout_s=600 ", ""),
    ),
    "no spot": (
        checks.cards_come_on_demand,
        changed("available_node_types/gpu_spot/node_config", {"InstanceType": "g6.2xlarge"}),
    ),
    "no token on the head": (checks.commands_authenticate, replaced("head", "RAY_AUTH_MODE=token ", "")),
    "no token on workers": (checks.commands_authenticate, replaced("worker", "RAY_AUTH_MODE=token ", "")),
    "authentication switched off": (checks.commands_authenticate, replaced("worker", "MODE=token", "MODE=disabled")),
    "no guard on the head": (checks.proxies_are_guarded, replaced("head", "proxy_guard:install", "other:install")),
    "no guard on workers": (checks.proxies_are_guarded, replaced("worker", "proxy_guard:install", "other:install")),
    "no Redis": (checks.head_outlives_itself, replaced("head", "RAY_REDIS_ADDRESS:?", "RAY_REDIS_ADDRESS:-")),
    "Redis on workers": (checks.head_outlives_itself, replaced("worker", "ray start", "echo $RAY_REDIS_X; ray start")),
    "an open port": (checks.nothing_is_open_to_the_world, changed("provider/security_group/IpPermissions", OPEN)),
    "Ray's own group": (checks.nothing_is_open_to_the_world, changed("provider/security_group", {})),
    "an open dashboard": (
        checks.nothing_is_open_to_the_world,
        replaced("head", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
    ),
    "a folder that is not there": (checks.mounts_are_folders, changed("file_mounts", {"/home/ray/x": "serve_app/x"})),
    "a single file": (checks.mounts_are_folders, changed("file_mounts", {"/home/ray/x": "cluster.yaml"})),
    "no app": (checks.the_app_is_deployed_at_start, replaced("head", "csm-serve deploy", "echo")),
    "another app": (checks.the_app_is_deployed_at_start, replaced("head", "autoscaling.yaml", "autoscale.yaml")),
    "a password": (
        checks.no_secret_stands_in_it,
        replaced("head", "RAY_external", "CSM_DATABASE__URL=postgresql://me:secret@host/db RAY_external"),
    ),
    "a token": (
        checks.no_secret_stands_in_it,
        replaced("head", "ray start", f"HF_TOKEN=hf_{'a' * 34} ray start"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, cluster: Cluster) -> None:
    check, change = MISTAKES[mistake]
    mistaken = copy.deepcopy(cluster)
    change(mistaken)
    assert list(check(mistaken)) != []


def test_every_check_has_a_mistake_to_find() -> None:
    assert {check for check, _ in MISTAKES.values()} == set(checks.CHECKS)


def test_its_nodes_hold_all_replicas_of_its_serve_config() -> None:
    assert "nodes of cluster.yaml" in check_config(read(SERVE_CONFIG), CLUSTER, with_model=False)


def test_all_its_cards_are_made_use_of(cluster: Cluster) -> None:
    cards = sum(
        node_type.resources.get("GPU", 0) * node_type.most for node_type in nodes_of(prepared(cluster, "c"), "c").types
    )
    most = {each.deployment: each.most for each in replicas(read(SERVE_CONFIG))}
    assert most["TokenGenerator"] == cards


def needs(deployment: str) -> dict[str, float]:
    return next(
        {resource: amount for resource, amount in each.needs.items() if amount}
        for each in replicas(read(SERVE_CONFIG))
        if each.deployment == deployment
    )


def started(cluster: Cluster, demands: list[dict[str, float]], running: dict[str, int]) -> dict[str, int]:
    """What Ray's own scheduler of the autoscaler would start."""
    filled = prepared(cluster, "cluster.yaml")
    nodes, unmet = get_nodes_for(
        filled["available_node_types"],
        running,
        filled["head_node_type"],
        filled["max_workers"],
        demands,
        lambda *args: _default_utilization_scorer(*args, node_availability_summary=None),
    )
    assert unmet == []
    return dict(nodes)


def test_the_first_replicas_start_one_spot_card_together(cluster: Cluster) -> None:
    demands = [needs(name) for name in ("TokenGenerator", "AudioDecoder", "ContextEncoder")]
    assert started(cluster, demands, {}) == {"gpu_spot": 1}


def test_where_no_more_spot_can_be_had_the_other_cards_are_taken(cluster: Cluster) -> None:
    most = cluster["available_node_types"]["gpu_spot"]["max_workers"]
    assert started(cluster, [needs("TokenGenerator")], {"gpu_spot": most}) == {"gpu_on_demand": 1}


def test_an_ingress_starts_no_card(cluster: Cluster) -> None:
    assert started(cluster, [needs("Ingress")], {}) == {"cpu": 1}
    spare = cluster["available_node_types"]["gpu_spot"]["resources"]
    assert any(spare.get(resource, 0) < amount for resource, amount in needs("Ingress").items())


def test_a_file_that_ray_refuses_is_one_line_with_the_key(cluster: Cluster) -> None:
    changed("available_node_types/gpu_spot/resources/GPU", 0.5)(cluster)
    with pytest.raises(StartupError, match=r"^cluster.yaml: available_node_types\.gpu_spot\.resources\.GPU: .*0\.5"):
        prepared(cluster, "cluster.yaml")
