"""`csm-serve check` and `deploy`: each bad configuration is one line and exit status 1, and nothing was started."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import ray
import yaml
from httpx import Request, Response
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from pydantic import ValidationError

from serve_app import app as app_module
from serve_app.app import BuildArgs, build
from serve_app.cli import main
from serve_app.deployments import ray_private
from serve_app.errors import StartupError

ROOT = next(parent for parent in Path(__file__).resolve().parents if (parent / "pyproject.toml").exists())
CLUSTER = ROOT / "cluster.yaml"
AUTOSCALING = ROOT / "serve_app" / "configs" / "autoscaling.yaml"


@pytest.fixture(autouse=True)
def nothing_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("something was started")

    monkeypatch.setenv("CSM_DATA_DIR", str(tmp_path / "data"))
    for name in ("init", "shutdown"):
        monkeypatch.setattr(ray, name, started)
    monkeypatch.setattr("serve_app.preflight.deploy.ServeSubmissionClient", started)
    yield
    assert not ray.is_initialized()
    assert not (tmp_path / "data").exists()


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(AUTOSCALING.read_text())


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> str:
    """The one line on stderr of a command that ends with exit status 1."""
    monkeypatch.setattr(sys, "argv", ["csm-serve", *argv])
    with pytest.raises(SystemExit) as stopped:
        main()
    message = stopped.value.code
    assert isinstance(message, str), "it ended well"
    assert "\n" not in message
    return message.removeprefix("csm-serve: ")


def args(config: dict[str, Any]) -> dict[str, Any]:
    return config["applications"][0]["args"]


def deployment(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in config["applications"][0]["deployments"] if each["name"] == name)


SLOT_POLICY = {"policy_function": "serve_app.deployments.scaling.autoscaling:SlotPolicy"}
BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "an unknown key of Serve's": (
        lambda c: deployment(c, "TokenGenerator").update(num_replica=1),
        "applications[0].deployments[0].num_replica: ",
        "did you mean num_replicas?",
    ),
    "an unknown setting": (
        lambda c: args(c)["engine"].update(max_batch=1),
        "applications[0].args: setting engine.max_batch: unknown: ",
        "did you mean max_batch_size?",
    ),
    "an unknown section": (
        lambda c: args(c).update(engin={}),
        "applications[0].args: setting engin: unknown: ",
        "did you mean engine?",
    ),
    "a setting out of bounds": (
        lambda c: args(c)["engine"].update(max_batch_size=0),
        "applications[0].args: setting engine.max_batch_size: ",
        "greater than or equal to 1",
    ),
    "an unknown deployment": (
        lambda c: deployment(c, "Ingress").update(name="Ingres"),
        "applications[0].deployments[4].name: ",
        "did you mean Ingress?",
    ),
    "a live setting that is none": (
        lambda c: deployment(c, "TokenGenerator").update(user_config={"engine": {"max_batch_size": 9}}),
        "applications[0].deployments[0].user_config: ",
        "max_batch_size cannot change without a restart",
    ),
    "an empty user_config where nothing is live": (
        lambda c: deployment(c, "ContextEncoder").update(user_config={}),
        "applications[0].deployments[2].user_config: ",
        "leave user_config out",
    ),
    "a bound of Serve's below the engine's": (
        lambda c: deployment(c, "TokenGenerator").update(max_ongoing_requests=48),
        "applications[0].deployments[0].max_ongoing_requests: 48 is less than the 96 requests",
        "give 96 or more",
    ),
    "more waiting than Serve lets in": (
        lambda c: deployment(c, "TokenGenerator").update(user_config={"engine": {"max_waiting": 5000}}),
        "applications[0].deployments[0].max_ongoing_requests: ",
        "give 5032 or more",
    ),
    "a policy of another's": (
        lambda c: deployment(c, "Ingress")["autoscaling_config"].update(policy=dict(SLOT_POLICY)),
        "applications[0].deployments[4].autoscaling_config.policy.policy_function: ",
        "leave policy out",
    ),
    "a misspelt variable of its environment": (
        lambda c: c["applications"][0].update(runtime_env={"env_vars": {"CSM_ENGIN__STEP": "plain"}}),
        "applications[0].args: CSM_ENGIN__STEP: there is no such setting",
        "did you mean CSM_ENGINE__STEP?",
    ),
    "more than a card": (
        lambda c: deployment(c, "TokenGenerator")["ray_actor_options"].update(num_gpus=2),
        "applications[0].deployments[0].ray_actor_options.num_gpus: ",
        "give 1 or less",
    ),
    "a card promised twice": (
        lambda c: args(c)["engine"].update(memory_fraction=0.9),
        "engine.memory_fraction 0.9 and ",
        "lower them, or raise num_gpus",
    ),
    "open to the world": (
        lambda c: args(c).pop("keys"),
        "applications[0].args: listening on 0.0.0.0 without keys",
        "set keys.required",
    ),
    "more replicas than cards": (
        lambda c: deployment(c, "TokenGenerator")["autoscaling_config"].update(max_replicas=13),
        "applications[0].deployments[0].autoscaling_config.max_replicas: 13 replicas",
        "lower it, or raise max_workers",
    ),
    "more CPUs than a node": (
        lambda c: deployment(c, "Ingress")["ray_actor_options"].update(num_cpus=99),
        "applications[0].deployments[4].ray_actor_options: a replica needs 99 CPU",
        "ask for less, or add one",
    ),
}


@pytest.mark.parametrize("command", ["check", "deploy"])
@pytest.mark.parametrize("what", BAD)
def test_a_bad_one_is_one_line_with_the_key_and_the_remedy(
    what: str, command: str, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, key, remedy = BAD[what]
    change(config)
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    line = run(monkeypatch, command, str(path), "--cluster", str(CLUSTER), "--offline")
    assert line.startswith(key)
    assert remedy in line


def test_the_clusters_own_is_fine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["csm-serve", "check", str(AUTOSCALING), "--cluster", str(CLUSTER), "--offline"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (None, 0)
    assert "fine: 50 replicas at most, on 15 nodes of cluster.yaml" in capsys.readouterr().out


def test_keys_may_be_required_by_the_applications_environment(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del args(config)["keys"]
    config["applications"][0]["runtime_env"] = {"env_vars": {"CSM_KEYS__REQUIRED": "true"}}
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(sys, "argv", ["csm-serve", "check", str(path), "--offline"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (None, 0)
    assert "fine" in capsys.readouterr().out
    assert "CSM_KEYS__REQUIRED" not in os.environ


def test_behind_haproxy_this_machines_address_is_open_to_the_world_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ray_private, "RAY_SERVE_ENABLE_HA_PROXY", True)
    line = run(monkeypatch, "check", with_model(tmp_path, "demo"))
    assert line.startswith("applications[0].args: listening on 0.0.0.0 without keys")


def with_model(tmp_path: Path, model: str) -> str:
    path = tmp_path / "serve.yaml"
    application = {"name": "csm", "import_path": "serve_app.app:build", "args": {"model": model}}
    path.write_text(yaml.safe_dump({"http_options": {"host": "127.0.0.1"}, "applications": [application]}))
    return str(path)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = run(monkeypatch, "check", with_model(tmp_path, "/nowhere/at/all"))
    assert line == ("/nowhere/at/all: no such folder; give 'demo', a folder, or a Hub repository like sesame/csm-1b")


def test_a_model_without_weights_is_refused(
    tiny_checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in tiny_checkpoint_folder.iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            (bare / path.name).write_bytes(path.read_bytes())
    line = run(monkeypatch, "check", with_model(tmp_path, str(bare)))
    assert line.startswith(f"{bare}: ") and "safetensors" in line


def hub_answers(monkeypatch: pytest.MonkeyPatch, error: type[Exception], status: int) -> list[list[str]]:
    asked: list[list[str]] = []

    def snapshot_download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        raise error("no", response=Response(status, request=Request("GET", "https://hub/")))  # type: ignore[call-arg]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_gated_model_without_a_token_is_refused_and_no_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hub_answers(monkeypatch, GatedRepoError, 401)
    line = run(monkeypatch, "check", with_model(tmp_path, "sesame/csm-1b"))
    assert line.startswith("sesame/csm-1b is gated: accept its licence") and "set HF_TOKEN" in line
    assert asked == [["config.json", "adapter_config.json"]]


def test_a_repository_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_answers(monkeypatch, RepositoryNotFoundError, 404)
    line = run(monkeypatch, "check", with_model(tmp_path, "sesame/csm-1bb"))
    assert line.startswith("sesame/csm-1bb is neither a folder here nor a repository") and "HF_TOKEN" in line


def test_a_cluster_file_that_ray_refuses_is_named(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = yaml.safe_load(CLUSTER.read_text())
    cluster["max_worker"] = 3
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(cluster))
    line = run(monkeypatch, "check", str(AUTOSCALING), "--cluster", str(path), "--offline")
    assert line.startswith("other.yaml: ") and "max_worker" in line


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"provider": {"type": "awss"}}, "Unsupported node provider: awss"),
        ({"provider": None}, "'NoneType'"),
        ({}, "provider is missing"),
        (
            {"cluster_name": "own", "provider": {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]}},
            "provider.type local: it does not say what its machines hold: leave --cluster out",
        ),
    ],
    ids=["an unknown provider", "none", "nothing", "machines of one's own"],
)
def test_a_cluster_file_that_tells_of_no_nodes_is_one_line(
    values: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(values))
    line = run(monkeypatch, "check", str(AUTOSCALING), "--cluster", str(path), "--offline")
    assert line.startswith("other.yaml: ") and message in line


def test_a_misspelt_variable_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CSM_ENGIN__MAX_WAITING", "3")
    line = run(monkeypatch, "check", with_model(tmp_path, "demo"))
    assert line == (
        "applications[0].args: CSM_ENGIN__MAX_WAITING: there is no such setting; did you mean CSM_ENGINE__MAX_WAITING?"
    )


def test_a_variable_that_is_none_of_ours_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kubernetes names such after a Service csm-serve."""
    monkeypatch.setenv("CSM_SERVE_SERVE_SVC_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(sys, "argv", ["csm-serve", "check", with_model(tmp_path, "demo")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (None, 0)
    assert "fine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "values", [{"engine": {"max_batch": 1}}, {"device": "tpu"}, {"modle": "x"}], ids=["key", "value", "name"]
)
def test_serve_run_builds_nothing_of_wrong_settings(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "build_graph", lambda _: pytest.fail("built"))
    with pytest.raises(StartupError, match=r"^setting \w") as error:
        build(BuildArgs(**values))
    assert "\n" not in str(error.value) and not isinstance(error.value.__cause__, ValidationError)


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Unreachable:
        def __init__(self, address: str) -> None:
            raise ConnectionError(address)

    monkeypatch.setattr("serve_app.preflight.deploy.ServeSubmissionClient", Unreachable)
    line = run(monkeypatch, "deploy", with_model(tmp_path, "demo"), "--address", "http://127.0.0.1:1")
    assert line.startswith("--address http://127.0.0.1:1: no Ray dashboard answers there; `ray dashboard")


def test_serve_does_not_wait_for_a_card_that_this_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.log.set_up", lambda *_, **__: None)
    monkeypatch.setattr("serve_app.cli.serving.has_card", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    line = run(monkeypatch, "serve", "--port", str(port), "--device", "cuda")
    assert line.startswith("device: Ray finds no CUDA device on this machine; use --device cpu")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--device", "auto"], "engine.memory_fraction 0.9 and codec.memory_fraction 0.15 promise 1.20"),
        (["--device", "cpu", "--model", "/nowhere"], "/nowhere: no such folder"),
    ],
    ids=["a card promised twice", "no model"],
)
def test_serve_starts_nothing_either(argv: list[str], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.log.set_up", lambda *_, **__: None)
    monkeypatch.setattr("serve_app.cli.serving.has_card", lambda: True)
    monkeypatch.setenv("CSM_ENGINE__MEMORY_FRACTION", "0.9")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert run(monkeypatch, "serve", "--port", str(port), *argv).startswith(line)
