"""A Serve config is read as it is meant: what Serve would let through ends in one line with the key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.errors import StartupError
from serve_app.preflight.serve_config import check_serve_config, read_yaml

POLICY = "serve_app.deployments.scaling.autoscaling:SlotPolicy"
BACKLOG_POLICY = "serve_app.deployments.scaling.backlog:runners_for_backlog"
ROUTER = "serve_app.deployments.scaling.prefix_router:PrefixRouter"


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(f"""
proxy_location: EveryNode
http_options: {{host: 127.0.0.1}}
applications:
  - name: csm
    import_path: serve_app.app:build
    runtime_env: {{env_vars: {{A: b}}}}
    args: {{model: demo}}
    deployments:
      - name: TokenGenerator
        ray_actor_options: {{num_cpus: 1}}
        request_router_config: {{request_router_class: {ROUTER}, request_router_kwargs: {{slots: 8}}}}
        autoscaling_config:
          max_replicas: 3
          policy: {{policy_function: {POLICY}, policy_kwargs: {{occupancy: 0.9}}}}
""")


def refused(config: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> str:
    change(config)
    with pytest.raises(StartupError) as error:
        check_serve_config(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def application(config: dict[str, Any]) -> dict[str, Any]:
    return config["applications"][0]


def generator(config: dict[str, Any]) -> dict[str, Any]:
    return application(config)["deployments"][0]


def scaling(config: dict[str, Any]) -> dict[str, Any]:
    return generator(config)["autoscaling_config"]


def test_a_right_one_gives_the_application_that_is_ours(config: dict[str, Any]) -> None:
    application(config)["name"] = "another"
    config["applications"].insert(0, {"name": "guest", "import_path": "guest:app", "route_prefix": "/guest"})
    [ours] = check_serve_config(config)
    assert (ours.key, ours.args) == ("applications[1]", {"model": "demo"})
    assert [deployment["name"] for deployment in ours.deployments] == ["TokenGenerator"]


UNKNOWN_KEYS = {
    "at the top": (lambda c: c.update(http_option={}), "http_option: unknown key: did you mean http_options?"),
    "of HTTP": (lambda c: c["http_options"].update(prot=1), "http_options.prot: unknown key: did you mean port?"),
    "of the application": (
        lambda c: application(c).update(arg={}),
        "applications[0].arg: unknown key: did you mean args?",
    ),
    "of its environment": (
        lambda c: application(c)["runtime_env"].update(env_var={}),
        "applications[0].runtime_env.env_var: unknown key: did you mean env_vars?",
    ),
    "of a deployment": (
        lambda c: generator(c).update(max_ongoing_request=1),
        "applications[0].deployments[0].max_ongoing_request: unknown key: did you mean max_ongoing_requests?",
    ),
    "of its actors": (
        lambda c: generator(c)["ray_actor_options"].update(num_gpu=1),
        "applications[0].deployments[0].ray_actor_options.num_gpu: unknown key: did you mean num_gpus?",
    ),
    "of its autoscaling": (
        lambda c: scaling(c).update(max_replica=1),
        "applications[0].deployments[0].autoscaling_config.max_replica: unknown key: did you mean max_replicas?",
    ),
    "of its policy": (
        lambda c: scaling(c)["policy"].update(policy_kwarg={}),
        "applications[0].deployments[0].autoscaling_config.policy.policy_kwarg: unknown key: did you mean "
        "policy_kwargs?",
    ),
    "of its router": (
        lambda c: generator(c)["request_router_config"].update(router_class="x"),
        "applications[0].deployments[0].request_router_config.router_class: unknown key: did you mean "
        "request_router_class?",
    ),
}


@pytest.mark.parametrize("where", UNKNOWN_KEYS)
def test_an_unknown_key_is_named_with_the_one_meant(where: str, config: dict[str, Any]) -> None:
    change, message = UNKNOWN_KEYS[where]
    assert refused(config, change) == message


def test_an_unknown_key_that_is_like_none_is_answered_with_those_there_are(config: dict[str, Any]) -> None:
    message = refused(config, lambda c: scaling(c)["policy"].update(qqq=1))
    assert message.endswith("policy.qqq: unknown key: use policy_function, policy_kwargs")


WRONG_VALUES = {
    "a word for a port": (lambda c: c["http_options"].update(port="x"), "http_options.port: Input should be"),
    "no applications": (lambda c: c.pop("applications"), "applications: Field required"),
    "no name": (lambda c: generator(c).pop("name"), "applications[0].deployments[0].name: Field required"),
    "fewer at most than at least": (
        lambda c: scaling(c).update(min_replicas=4),
        "applications[0].deployments[0].autoscaling_config: max_replicas (3) must be greater",
    ),
    "a fixed number that scales": (
        lambda c: generator(c).update(num_replicas=2),
        "applications[0].deployments[0]: Manually setting num_replicas is not allowed",
    ),
    "a policy that is not there": (
        lambda c: scaling(c)["policy"].update(policy_function=POLICY + "s"),
        f"applications[0].deployments[0].autoscaling_config.policy.policy_function: {POLICY}s cannot be imported",
    ),
    "a policy's unknown argument": (
        lambda c: scaling(c)["policy"].update(policy_kwargs={"occupation": 1}),
        "applications[0].deployments[0].autoscaling_config.policy.policy_kwargs: occupation is not known",
    ),
    "a router that is not there": (
        lambda c: generator(c)["request_router_config"].update(request_router_class="nowhere:Router"),
        "applications[0].deployments[0].request_router_config.request_router_class: nowhere:Router cannot be imported",
    ),
    "a router's unknown argument": (
        lambda c: generator(c)["request_router_config"].update(request_router_kwargs={"slot": 8}),
        "applications[0].deployments[0].request_router_config.request_router_kwargs: ",
    ),
    "a router's number that makes no sense": (
        lambda c: generator(c)["request_router_config"].update(request_router_kwargs={"slots": 0}),
        "applications[0].deployments[0].request_router_config.request_router_kwargs: slots 0 must be 1 or more",
    ),
    "a router that is none": (
        lambda c: generator(c)["request_router_config"].update(request_router_class=POLICY),
        f"applications[0].deployments[0].request_router_config.request_router_class: {POLICY} is no request router",
    ),
    "a policy that is none": (
        lambda c: scaling(c)["policy"].update(
            policy_function="serve_app.deployments.scaling.autoscaling:REFUSALS_SECONDS"
        ),
        "applications[0].deployments[0].autoscaling_config.policy.policy_function: "
        "serve_app.deployments.scaling.autoscaling:REFUSALS_SECONDS is neither a class nor a function",
    ),
    "a function's unknown argument": (
        lambda c: scaling(c).update(policy={"policy_function": BACKLOG_POLICY, "policy_kwargs": {"room": 2}}),
        "applications[0].deployments[0].autoscaling_config.policy.policy_kwargs: got an unexpected keyword",
    ),
    "a word for a deployment": (
        lambda c: application(c)["deployments"].append("Ingress"),
        "applications[0].deployments[1]: must be a mapping",
    ),
    "a word for an amount": (
        lambda c: generator(c)["ray_actor_options"].update(resources={"cpu_node": "x"}),
        "applications[0].deployments[0].ray_actor_options.resources.cpu_node: x must be a number, 0 or more",
    ),
    "a number for a variable": (
        lambda c: application(c)["runtime_env"].update(env_vars={"A": 1}),
        'applications[0].runtime_env.env_vars.A: 1 must be text: write "1"',
    ),
    "a prefix without a slash": (
        lambda c: application(c).update(route_prefix="csm"),
        "applications[0].route_prefix: csm must begin with /",
    ),
    "a port that is none": (lambda c: c["http_options"].update(port=70000), "http_options.port: 70000 is no port"),
    "another application": (
        lambda c: application(c).update(import_path="serve_app.app:biuld"),
        "applications: none has import_path serve_app.app:build, one must",
    ),
}


@pytest.mark.parametrize("what", WRONG_VALUES)
def test_a_wrong_value_is_named_with_its_place(what: str, config: dict[str, Any]) -> None:
    change, message = WRONG_VALUES[what]
    assert refused(config, change).startswith(message)


def test_a_second_application_of_ours_is_another_model(config: dict[str, Any]) -> None:
    application(config)["route_prefix"] = "/"
    second = {"name": "narrator", "import_path": "serve_app.app:build", "route_prefix": "/n", "args": {"model": "x"}}
    config["applications"].append(second)
    assert [(ours.name, ours.args["model"]) for ours in check_serve_config(config)] == [
        ("csm", "demo"),
        ("narrator", "x"),
    ]


def test_a_deployment_that_the_application_does_not_have_is_refused(config: dict[str, Any]) -> None:
    generator(config)["name"] = "TokenGenrator"
    with pytest.raises(
        StartupError,
        match=r"^applications\[0\]\.deployments\[0\]\.name: no deployment is called TokenGenrator: did you mean "
        r"TokenGenerator\?$",
    ):
        check_serve_config(config)[0].check_names(["Ingress", "TokenGenerator"])


def test_a_deployment_that_stands_there_twice_is_refused(config: dict[str, Any]) -> None:
    application(config)["deployments"].append({"name": "TokenGenerator", "num_replicas": 1})
    with pytest.raises(
        StartupError, match=r"^applications\[0\]\.deployments\[1\]\.name: TokenGenerator is listed twice"
    ):
        check_serve_config(config)[0].check_names(["TokenGenerator"])


def test_a_policy_of_ours_where_nobody_reports_to_it_is_refused(config: dict[str, Any]) -> None:
    check_serve_config(config)[0].check_policies()
    scaling(config)["policy"] = {"policy_function": BACKLOG_POLICY}
    with pytest.raises(
        StartupError,
        match=r"deployments\[0\]\.autoscaling_config\.policy\.policy_function: .*runners_for_backlog is for JobRunner, "
        r"TokenGenerator reports nothing to it",
    ):
        check_serve_config(config)[0].check_policies()


def test_values_are_as_serve_reads_them(config: dict[str, Any]) -> None:
    generator(config)["ray_actor_options"] = {"num_cpus": "2", "num_gpus": "0.6"}
    application(config)["args"] = {"model": "demo", 1: "x"}
    [ours] = check_serve_config(config)
    assert ours.deployments[0]["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0.6}
    assert ours.args == {"model": "demo", "1": "x"}
    assert ours.env_vars == {"A": "b"}


@pytest.mark.parametrize("text", ["[1, 2]", "", "a: [", "\xff"], ids=["a list", "nothing", "half", "no text"])
def test_a_file_that_holds_no_mapping_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StartupError) as error:
        read_yaml(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No such file or directory: give the path of a YAML file"):
        read_yaml(tmp_path / "serve.yaml")
