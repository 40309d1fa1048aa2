"""deploy/kuberay/base: what its parts must agree on, and that each check finds what it is for."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
import yaml

from serve_app import __version__
from serve_app.deployments.proxy_guard import PROXY_GUARDS
from serve_app.errors import StartupError
from serve_app.preflight.placement import Nodes, NodeType, check_nodes
from tests.support.deploy_files import (
    DOCKERFILE,
    KUBERAY,
    NODES,
    SERVE_CONFIG,
    drain_seconds,
    is_our_image,
    kernels_folder,
    read,
    replicas,
)

Manifests = dict[str, dict[str, Any]]
CAPACITY_TYPE = "karpenter.sh/capacity-type"


@pytest.fixture
def manifests() -> Manifests:
    base = KUBERAY / "base"
    files = [base / name for name in yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]]
    found = [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]
    return {manifest["kind"]: manifest for manifest in found}


def spec(manifests: Manifests) -> dict[str, Any]:
    return manifests["RayService"]["spec"]


def workers(manifests: Manifests) -> list[dict[str, Any]]:
    return spec(manifests)["rayClusterConfig"]["workerGroupSpecs"]


def templates(manifests: Manifests) -> list[dict[str, Any]]:
    groups = [spec(manifests)["rayClusterConfig"]["headGroupSpec"], *workers(manifests)]
    return [group["template"] for group in groups]


def containers(manifests: Manifests) -> list[dict[str, Any]]:
    return [container for template in templates(manifests) for container in template["spec"]["containers"]]


def serves_the_clusters_config(manifests: Manifests) -> Iterator[str]:
    if yaml.safe_load(spec(manifests)["serveConfigV2"]) != read(SERVE_CONFIG):
        yield "serveConfigV2 is not serve_app/configs/autoscaling.yaml"


def names_the_installed_ray(manifests: Manifests) -> Iterator[str]:
    if spec(manifests)["rayClusterConfig"]["rayVersion"] != ray.__version__:
        yield "rayVersion"
    for container in containers(manifests):
        if not is_our_image(container["image"]):
            yield f"{container['name']}: {container['image']}"


def pods_hold_all_replicas(manifests: Manifests) -> Iterator[str]:
    types = [NodeType(group["groupName"], resources(group), group["maxReplicas"]) for group in workers(manifests)]
    nodes = Nodes("rayservice.yaml", tuple(types), sum(each.most for each in types))
    try:
        check_nodes(replicas(yaml.safe_load(spec(manifests)["serveConfigV2"])), nodes)
    except StartupError as error:
        yield str(error)


def resources(group: dict[str, Any]) -> dict[str, float]:
    """As KubeRay reads them: a container's limits, and what `ray start` is told beside."""
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    more = json.loads(group["rayStartParams"].get("resources", "'{}'").strip("'").strip('"').replace('\\"', '"'))
    return {"CPU": float(limits["cpu"]), "GPU": float(limits.get("nvidia.com/gpu", 0))} | more


def cards_come_on_demand(manifests: Manifests) -> Iterator[str]:
    """Spot cards first, over one that is not taken back."""
    with_cards = [group for group in workers(manifests) if resources(group)["GPU"]]
    kinds = [group["template"]["spec"].get("nodeSelector", {}).get(CAPACITY_TYPE) for group in with_cards]
    if kinds != ["spot", "on-demand"]:  # Ray's autoscaler takes the first group that fits
        yield f"cards are taken in the order {kinds}"
    if [group["minReplicas"] for group in with_cards] != [0, 1]:
        yield "the floor is not one card on demand"
    if not spec(manifests)["rayClusterConfig"]["enableInTreeAutoscaling"]:
        yield "nothing scales"


def one_may_go(manifests: Manifests) -> Iterator[str]:
    """Of everything that carries streams there are two."""
    if next(group for group in workers(manifests) if group["groupName"] == "cpu")["minReplicas"] < 2:
        yield "one cpu pod carries all connections"
    for deployment in yaml.safe_load(spec(manifests)["serveConfigV2"])["applications"][0]["deployments"]:
        # A job's runner is not missed: another takes the job. Times of words come after the sound.
        if (
            deployment["name"] not in ("JobRunner", "WordAligner")
            and deployment["autoscaling_config"]["min_replicas"] < 2
        ):
            yield f"one {deployment['name']}"


def spot_pods_get_no_requests(manifests: Manifests) -> Iterator[str]:
    """The Service's port is one by name, and pods with cards have none of that name."""
    (port,) = spec(manifests)["serveService"]["spec"]["ports"]
    for group in workers(manifests):
        names = {each["name"] for each in group["template"]["spec"]["containers"][0]["ports"]}
        if (port["targetPort"] in names) != (group["groupName"] == "cpu"):
            yield f"{group['groupName']} has ports {names}"


def nodes_know_how_fast_to_report(manifests: Manifests) -> Iterator[str]:
    for container in containers(manifests):
        if not {(name, value) for name, value in NODES.items()} <= {
            (each["name"], each["value"]) for each in container["env"]
        }:
            yield f"{container['name']} lacks one of {NODES}"


def disks_hold_the_image(manifests: Manifests) -> Iterator[str]:
    for container in containers(manifests):
        if "ephemeral-storage" not in container["resources"]["requests"]:
            yield f"{container['name']} may be evicted for its disk"


def pods_may_be_moved(manifests: Manifests) -> Iterator[str]:
    """By an integer minAvailable: for maxUnavailable the RayCluster would have to say how many pods it wants."""
    budget = manifests["PodDisruptionBudget"]["spec"]
    if set(budget) != {"minAvailable", "selector"} or not isinstance(budget["minAvailable"], int):
        yield "no pod may be moved at all"
    least = next(group["minReplicas"] for group in workers(manifests) if group["groupName"] == "cpu")
    if budget.get("minAvailable", 0) >= least:
        yield "the smallest cluster cannot be drained"
    if budget["selector"]["matchLabels"].get("ray.io/group") != "cpu":
        yield "an idle pod with a card holds up its node"


def head_runs_no_replica(manifests: Manifests) -> Iterator[str]:
    if spec(manifests)["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] != "0":
        yield "the head has CPUs"
    if not spec(manifests)["excludeHeadPodFromServeSvc"]:
        yield "the head gets requests"


def streams_may_end(manifests: Manifests) -> Iterator[str]:
    for group in workers(manifests):
        pod = group["template"]["spec"]
        if pod["terminationGracePeriodSeconds"] <= drain_seconds():
            yield f"{group['groupName']}: the grace period ends before the drain"
        if "ray drain-node" not in str(pod["containers"][0].get("lifecycle", {}).get("preStop")):
            yield f"{group['groupName']}: nothing is drained"
    if spec(manifests)["rayClusterDeletionDelaySeconds"] <= drain_seconds():
        yield "an upgrade ends the old cluster before its streams"


def head_outlives_itself(manifests: Manifests) -> Iterator[str]:
    options = spec(manifests)["rayClusterConfig"].get("gcsFaultToleranceOptions", {})
    if not options.get("redisAddress") or "secretKeyRef" not in options.get("redisPassword", {}).get("valueFrom", {}):
        yield "no Redis with a password from a Secret"


def pods_authenticate(manifests: Manifests) -> Iterator[str]:
    if spec(manifests)["rayClusterConfig"].get("authOptions") != {"mode": "token"}:
        yield "no token"


def pods_are_not_root(manifests: Manifests) -> Iterator[str]:
    for template in templates(manifests):
        if not template["spec"]["securityContext"].get("runAsNonRoot"):
            yield "a pod may be root"
    for container in containers(manifests):
        if container["securityContext"].get("allowPrivilegeEscalation") is not False:
            yield f"{container['name']} may become root"


def pods_write_to_their_volumes_only(manifests: Manifests) -> Iterator[str]:
    for container in containers(manifests):
        if not container["securityContext"].get("readOnlyRootFilesystem"):
            yield f"{container['name']} may change its image"
    for template in templates(manifests):
        volumes = {each["name"] for each in template["spec"]["volumes"] if each["emptyDir"].get("sizeLimit")}
        for container in template["spec"]["containers"]:
            mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
            needed = {"/tmp", "/home/ray/.cache", "/home/ray/.local"}
            if not set(mounted.values()) <= volumes or not needed <= set(mounted):
                yield f"{container['name']} cannot write what it must"


def cards_find_the_images_kernels(manifests: Manifests) -> Iterator[str]:
    """In a volume where the image has them, since nobody may write to the image: copied before the server starts."""
    folder = kernels_folder(DOCKERFILE.read_text())
    for group in workers(manifests):
        pod, name = group["template"]["spec"], group["groupName"]
        container = pod["containers"][0]
        mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        if "TRITON_CACHE_DIR" in {each["name"] for each in container["env"]}:
            yield f"{name}: the server looks elsewhere than the image says"
        if resources(group)["GPU"]:
            copies = [
                each["command"]
                for each in pod.get("initContainers", ())
                if each["image"] == container["image"]
                for mount in each["volumeMounts"]
                if mount["name"] == mounted.get(folder) and each["command"][-1] == mount["mountPath"] != folder
            ]
            if [command[:-1] for command in copies] != [["cp", "-r", f"{folder}/."]]:
                yield f"{name}: the image's kernels are hidden by a volume or compiled anew in each pod"


def workers_may_not_ask_kubernetes(manifests: Manifests) -> Iterator[str]:
    for group in workers(manifests):
        if group["template"]["spec"].get("automountServiceAccountToken") is not False:
            yield f"{group['groupName']}: a pod holds a token of the cluster"


def proxies_are_guarded(manifests: Manifests) -> Iterator[str]:
    for container in containers(manifests):
        values = {each["name"]: each["value"] for each in container["env"]}
        if not values.items() & PROXY_GUARDS.items():
            yield f"{container['name']}: the proxy has no guard"


def pods_are_probed(manifests: Manifests) -> Iterator[str]:
    for container in containers(manifests):
        if not {"livenessProbe", "readinessProbe"} <= set(container):
            yield f"{container['name']} is not probed"
    for group in workers(manifests):
        if "8000/-/healthz" not in str(group["template"]["spec"]["containers"][0].get("readinessProbe")):
            yield f"{group['groupName']}: ready without a proxy"


def policies_select_the_pods(manifests: Manifests) -> Iterator[str]:
    selected = manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    disrupted = dict(manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"])
    disrupted.pop("ray.io/group", None)  # KubeRay's own label
    for template in templates(manifests):
        labels = template["metadata"]["labels"].items()
        if not (selected and selected.items() <= labels and disrupted and disrupted.items() <= labels):
            yield f"a pod of {dict(labels)} is not selected"


def nothing_is_open_to_the_world(manifests: Manifests) -> Iterator[str]:
    policy = manifests["NetworkPolicy"]["spec"]
    if "Ingress" not in policy["policyTypes"]:
        yield "the policy lets everything in"
    for rule in policy["ingress"]:
        for peer in rule.get("from") or [{}]:
            inside = peer.get("podSelector", {}).get("matchLabels") or peer.get("namespaceSelector", {}).get(
                "matchLabels"
            )
            if not inside:
                yield f"{rule} is for everybody"
        ports = {port["port"] for port in rule.get("ports", [])}
        if not ports and rule["from"] != [{"podSelector": policy["podSelector"]}]:
            yield f"{rule} opens every port"


CHECKS = (
    serves_the_clusters_config,
    names_the_installed_ray,
    pods_hold_all_replicas,
    cards_come_on_demand,
    one_may_go,
    spot_pods_get_no_requests,
    nodes_know_how_fast_to_report,
    disks_hold_the_image,
    pods_may_be_moved,
    head_runs_no_replica,
    streams_may_end,
    head_outlives_itself,
    pods_authenticate,
    pods_are_not_root,
    pods_write_to_their_volumes_only,
    cards_find_the_images_kernels,
    workers_may_not_ask_kubernetes,
    proxies_are_guarded,
    pods_are_probed,
    policies_select_the_pods,
    nothing_is_open_to_the_world,
)

Change = Callable[[Manifests], Any]


def on_cluster(**values: Any) -> Change:
    return lambda manifests: spec(manifests)["rayClusterConfig"].update(values)


def on_workers(**values: Any) -> Change:
    return lambda manifests: [group["template"]["spec"].update(values) for group in workers(manifests)]


def on_containers(**values: Any) -> Change:
    return lambda manifests: [container.update(values) for container in containers(manifests)]


def with_config(old: str, new: str) -> Change:
    def change(manifests: Manifests) -> None:
        text = spec(manifests)["serveConfigV2"]
        assert old in text
        spec(manifests)["serveConfigV2"] = text.replace(old, new)

    return change


def on_budget(**values: Any) -> Change:
    return lambda manifests: manifests["PodDisruptionBudget"]["spec"].update(values)


def from_everybody(**rule: Any) -> Change:
    return lambda manifests: manifests["NetworkPolicy"]["spec"]["ingress"].append(rule)


MISTAKES: dict[str, tuple[Callable[[Manifests], Iterator[str]], Change]] = {
    "another Serve config": (serves_the_clusters_config, with_config("name: AudioDecoder", "name: Decoder")),
    "an older Ray": (names_the_installed_ray, on_cluster(rayVersion="2.59.0")),
    "an older image": (names_the_installed_ray, on_containers(image=f"host/csm-serve:{__version__}-ray2.59.0")),
    "more than a card": (pods_hold_all_replicas, with_config("num_gpus: 0.6", "num_gpus: 2")),
    "replicas too many": (pods_hold_all_replicas, with_config("max_replicas: 12", "max_replicas: 13")),
    "no cards": (pods_hold_all_replicas, on_containers(resources={"limits": {"cpu": "7"}})),
    "a card kept": (
        cards_come_on_demand,
        lambda manifests: [group.update(minReplicas=1) for group in workers(manifests)],
    ),
    "spot only": (cards_come_on_demand, on_workers(nodeSelector={CAPACITY_TYPE: "spot"})),
    "on demand first": (
        cards_come_on_demand,
        lambda manifests: workers(manifests).append(workers(manifests).pop(1)),
    ),
    "no autoscaler": (cards_come_on_demand, on_cluster(enableInTreeAutoscaling=False)),
    "a head that works": (
        head_runs_no_replica,
        lambda manifests: spec(manifests)["rayClusterConfig"]["headGroupSpec"]["rayStartParams"].update(
            {"num-cpus": "2"}
        ),
    ),
    "a head that serves": (
        head_runs_no_replica,
        lambda manifests: spec(manifests).update(excludeHeadPodFromServeSvc=False),
    ),
    "a short grace period": (streams_may_end, on_workers(terminationGracePeriodSeconds=180)),
    "no drain": (streams_may_end, on_containers(lifecycle={})),
    "a hasty upgrade": (
        streams_may_end,
        lambda manifests: spec(manifests).update(rayClusterDeletionDelaySeconds=60),
    ),
    "no Redis": (head_outlives_itself, on_cluster(gcsFaultToleranceOptions={})),
    "a password in the open": (
        head_outlives_itself,
        on_cluster(gcsFaultToleranceOptions={"redisAddress": "redis:6379", "redisPassword": {"value": "secret"}}),
    ),
    "no token": (pods_authenticate, on_cluster(authOptions={"mode": "disabled"})),
    "root": (pods_are_not_root, on_workers(securityContext={})),
    "a way to root": (pods_are_not_root, on_containers(securityContext={})),
    "a writable image": (
        pods_write_to_their_volumes_only,
        on_containers(securityContext={"allowPrivilegeEscalation": False}),
    ),
    "nowhere to write": (pods_write_to_their_volumes_only, on_containers(volumeMounts=[])),
    "a disk without bound": (
        pods_write_to_their_volumes_only,
        on_workers(volumes=[{"name": name, "emptyDir": {}} for name in ("tmp", "cache", "local")]),
    ),
    "kernels that stay in the image": (cards_find_the_images_kernels, on_workers(initContainers=[])),
    "kernels of another image": (
        cards_find_the_images_kernels,
        lambda manifests: [
            each.update(image="busybox")
            for group in workers(manifests)
            for each in group["template"]["spec"].get("initContainers", ())
        ],
    ),
    "kernels looked for elsewhere": (
        cards_find_the_images_kernels,
        on_containers(env=[{"name": "TRITON_CACHE_DIR", "value": "/tmp/triton"}]),
    ),
    "a token of Kubernetes": (workers_may_not_ask_kubernetes, on_workers(automountServiceAccountToken=True)),
    "no guard": (proxies_are_guarded, on_containers(env=[])),
    "no probe": (
        pods_are_probed,
        lambda manifests: [container.pop("livenessProbe") for container in containers(manifests)],
    ),
    "a probe without the proxy": (pods_are_probed, on_containers(readinessProbe={"httpGet": {"path": "/", "port": 1}})),
    "other labels": (
        policies_select_the_pods,
        lambda manifests: templates(manifests)[1].update(metadata={"labels": {"app": "csm"}}),
    ),
    "one cpu pod": (one_may_go, lambda manifests: workers(manifests)[0].update(minReplicas=1)),
    "one decoder": (one_may_go, with_config("min_replicas: 2", "min_replicas: 1")),
    "streams through spot pods": (
        spot_pods_get_no_requests,
        lambda manifests: workers(manifests)[1]["template"]["spec"]["containers"][0]["ports"].append(
            {"name": "serve", "containerPort": 8000}
        ),
    ),
    "slow reports": (nodes_know_how_fast_to_report, on_containers(env=[])),
    "no room on disk": (disks_hold_the_image, on_containers(resources={"requests": {"cpu": "1"}})),
    "a budget for the head": (pods_may_be_moved, on_budget(selector={"matchLabels": {"app": "csm-serve"}})),
    "a budget that Kubernetes cannot count": (pods_may_be_moved, on_budget(maxUnavailable=1)),
    "a budget without room": (pods_may_be_moved, on_budget(minAvailable=2)),
    "the world": (nothing_is_open_to_the_world, from_everybody(ports=[{"port": 8000}])),
    "every namespace": (
        nothing_is_open_to_the_world,
        from_everybody(**{"from": [{"namespaceSelector": {}}], "ports": [{"port": 8265}]}),
    ),
    "every port": (
        nothing_is_open_to_the_world,
        from_everybody(**{"from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]}),
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_wrong_with_it(check: Callable[[Manifests], Iterator[str]], manifests: Manifests) -> None:
    assert list(check(manifests)) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, manifests: Manifests) -> None:
    check, change = MISTAKES[mistake]
    # Through text, so that no two groups share a part.
    mistaken = json.loads(json.dumps(copy.deepcopy(manifests)))
    change(mistaken)
    assert list(check(mistaken)) != []


def test_every_check_has_a_mistake_to_find() -> None:
    assert {check for check, _ in MISTAKES.values()} == set(CHECKS)


def test_all_that_is_in_it_has_the_same_name(manifests: Manifests) -> None:
    assert set(manifests) == {"RayService", "PodDisruptionBudget", "NetworkPolicy"}
    assert {manifest["metadata"]["name"] for manifest in manifests.values()} == {"csm-serve"}


def test_a_pods_cards_are_what_its_container_is_given(manifests: Manifests) -> None:
    for container in containers(manifests):
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert sorted(resources(group)["GPU"] for group in workers(manifests)) == [0, 1, 1]
