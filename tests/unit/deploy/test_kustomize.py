"""deploy/kuberay: what the overlays make of the base."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deploy_files import KUBERAY, NODES, ROOT, read
from tests.support.system_packages import need

Objects = list[dict[str, Any]]
INCREMENTAL = "resources: [{base}]\ncomponents: [{components}/incremental-upgrade]\n"


def rendered(folder: Path) -> Objects:
    need("kubectl")
    command = ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of(objects: Objects, kind: str) -> dict[str, Any]:
    return next(each for each in objects if each["kind"] == kind)


def groups(objects: Objects) -> list[dict[str, Any]]:
    return of(objects, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]


@pytest.fixture(scope="module")
def production() -> Objects:
    return rendered(KUBERAY / "overlays" / "production")


@pytest.fixture(scope="module")
def one_gpu() -> Objects:
    return rendered(KUBERAY / "overlays" / "one-gpu")


def test_one_card_serves_what_gpu_yaml_serves(one_gpu: Objects) -> None:
    served = yaml.safe_load(of(one_gpu, "RayService")["spec"]["serveConfigV2"])
    served["http_options"]["host"] = "127.0.0.1"
    assert served["applications"][0]["args"].pop("keys") == {"required": True}
    assert served == read(ROOT / "serve_app" / "configs" / "gpu.yaml")


def test_one_card_is_one_pod_that_takes_requests(one_gpu: Objects) -> None:
    (group,) = groups(one_gpu)
    (container,) = group["template"]["spec"]["containers"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 1)
    assert "nodeSelector" not in group["template"]["spec"]
    assert {port["name"] for port in container["ports"]} == {"serve", "metrics"}
    assert {each["kind"] for each in one_gpu} == {"RayService", "NetworkPolicy"}


def test_production_reads_the_weights_from_the_volume_that_a_job_fills(production: Objects) -> None:
    claim = of(production, "PersistentVolumeClaim")["metadata"]["name"]
    job = of(production, "Job")["spec"]["template"]["spec"]
    assert job["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim
    for group in groups(production):
        pod = group["template"]["spec"]
        container = pod["containers"][0]
        env = {each["name"]: each["value"] for each in container["env"]}
        assert {
            volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if volume["name"] == "models"
        } == {claim}
        assert env["HF_HOME"] == job["containers"][0]["env"][0]["value"] == container["volumeMounts"][-1]["mountPath"]
        assert env["HF_HUB_OFFLINE"] == "1"
        assert env.items() >= NODES.items()


def test_every_pod_may_write_to_its_volumes_alone(production: Objects, one_gpu: Objects) -> None:
    """A patch that sets the volumes would take those of the base away."""
    for group in [*groups(production), *groups(one_gpu)]:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert container["securityContext"]["readOnlyRootFilesystem"] and set(mounted.values()) <= volumes
            assert {"/tmp", "/home/ray/.cache", "/home/ray/.local"} <= set(mounted)


def test_production_pods_are_spread_over_zones(production: Objects) -> None:
    for group in groups(production):
        (spread,) = group["template"]["spec"]["topologySpreadConstraints"]
        assert spread["labelSelector"]["matchLabels"]["ray.io/group"] == group["groupName"]


def test_the_route_leads_to_the_service_and_waits_for_the_longest_answer(production: Objects) -> None:
    service = of(production, "RayService")["spec"]["serveService"]
    (rule,) = of(production, "HTTPRoute")["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}]
    args = yaml.safe_load(of(production, "RayService")["spec"]["serveConfigV2"])["applications"][0]["args"]
    longest = 1800 + args["failover"]["cold_wait_seconds"]
    assert all(int(seconds.removesuffix("s")) > longest for seconds in rule["timeouts"].values())


def test_metrics_are_read_from_the_port_that_pods_have(production: Objects) -> None:
    monitor = of(production, "PodMonitor")["spec"]
    containers = [group["template"]["spec"]["containers"][0] for group in groups(production)]
    assert all(monitor["podMetricsEndpoints"][0]["port"] in {p["name"] for p in c["ports"]} for c in containers)
    assert all(
        monitor["selector"]["matchLabels"].items() <= g["template"]["metadata"]["labels"].items()
        for g in groups(production)
    )


def test_no_private_network_is_reached_by_whoever_names_an_address(production: Objects) -> None:
    (policy,) = [each for each in production if each["spec"].get("policyTypes") == ["Egress"]]
    (world,) = [
        peer["ipBlock"]
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    ]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(world["except"])


def test_an_incremental_upgrade_replaces_what_contradicts_it(tmp_path: Path) -> None:
    kustomization = INCREMENTAL.format(
        base=os.path.relpath(KUBERAY / "overlays" / "production", tmp_path),
        components=os.path.relpath(KUBERAY / "components", tmp_path),
    )
    (tmp_path / "kustomization.yaml").write_text(kustomization)
    objects = rendered(tmp_path)
    spec = of(objects, "RayService")["spec"]
    assert "serveService" not in spec and spec["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade"
    head = spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert "serve" in {port["name"] for port in head["ports"]}  # KubeRay makes a Service of it
    assert not {"Gateway", "HTTPRoute"} & {each["kind"] for each in objects}


VALIDATE = """
import sys, yaml, kubernetes_validate
for each in yaml.safe_load_all(sys.stdin):
    if "." not in each["apiVersion"].split("/")[0] or each["apiVersion"].split("/")[0].endswith("k8s.io"):
        if not each["apiVersion"].startswith("gateway."):
            kubernetes_validate.validate(each, "1.32", strict=True)
            print(each["kind"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("overlay", ["production", "one-gpu"])
def test_every_object_of_kubernetes_own_is_valid(overlay: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Against Kubernetes 1.32. The schemas are 17,000 files, so they are installed for this test only."""
    environment = tmp_path_factory.getbasetemp() / "kubernetes-validate"
    if not environment.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run(
            [environment / "bin" / "pip", "install", "-q", "kubernetes-validate", "pyyaml"], check=True, timeout=300
        )
    objects = rendered(KUBERAY / "overlays" / overlay)
    command = [environment / "bin" / "python", "-c", VALIDATE]
    done = subprocess.run(command, input=yaml.safe_dump_all(objects), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "NetworkPolicy" in done.stdout
