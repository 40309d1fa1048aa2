"""Reads a Serve config, and refuses mistakes that Serve would accept or report late.

Serve's own schema ignores unknown keys, so a misspelt key would be a silent default.
"""

import importlib
import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from ray.runtime_env import RuntimeEnv
from ray.serve.config import AutoscalingPolicy, RequestRouterConfig
from ray.serve.request_router import RequestRouter
from ray.serve.schema import RayActorOptionsSchema, ServeApplicationSchema, ServeDeploySchema

from serve_app.deployments.scaling.prefix_router import PrefixRouter, RoutingRules
from serve_app.errors import StartupError
from serve_app.settings import models_in, suggestion

IMPORT_PATH = "serve_app.app:build"
_POLICIES = {"SlotPolicy": ("TokenGenerator", "AudioDecoder"), "runners_for_backlog": ("JobRunner",)}
"""Our own policies, with the deployments that report figures to them."""
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class OurApplication:
    """One of this server's applications in a Serve config. `key` is its place, such as `applications[0]`."""

    key: str
    name: str
    args: dict[str, Any]
    deployments: list[dict[str, Any]]
    env_vars: dict[str, str] = field(default_factory=dict)
    """From its `runtime_env`. Its settings are read from these too."""

    def check_names(self, known: Iterable[str]) -> None:
        """Raises StartupError for an unknown deployment, or one that is listed twice."""
        names = list(known)
        found = [deployment["name"] for deployment in self.deployments]
        for index, name in enumerate(found):
            where = f"{self.key}.deployments[{index}].name"
            if name not in names:
                raise StartupError(f"{where}: no deployment is called {name}{suggestion(name, names)}")
            if name in found[:index]:
                raise StartupError(f"{where}: {name} is listed twice, and Serve would ignore one: join them")

    def check_policies(self) -> None:
        """Raises StartupError for a policy of ours on a deployment that does not report to it: it would never scale."""
        for index, deployment in enumerate(self.deployments):
            policy = ((deployment.get("autoscaling_config") or {}).get("policy") or {}).get("policy_function", "")
            suited = _POLICIES.get(policy.rpartition(".")[2].rpartition(":")[2], (deployment["name"],))
            if deployment["name"] not in suited:
                raise StartupError(
                    f"{self.key}.deployments[{index}].autoscaling_config.policy.policy_function: {policy} is for "
                    f"{' and '.join(suited)}, {deployment['name']} reports nothing to it: leave policy out"
                )


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises StartupError if there is none."""
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}: give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartupError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise StartupError(f"{path}: must be a mapping of keys to values")
    return values


def check_serve_config(config: dict[str, Any]) -> list[OurApplication]:
    """This server's applications, at least one. Raises StartupError naming the first wrong key or value."""
    _check(ServeDeploySchema, config, "")
    # As Serve reads it: "0.6" is a number where it wants one.
    read = ServeDeploySchema.model_validate(config).model_dump(exclude_unset=True)
    if (port := read.get("http_options", {}).get("port", 0)) > _MAX_PORT:
        raise StartupError(f"http_options.port: {port} is no port: give one up to {_MAX_PORT}")
    ours = [
        _our_application(f"applications[{index}]", application)
        for index, application in enumerate(read["applications"])
        if application["import_path"] == IMPORT_PATH
    ]
    if not ours:
        raise StartupError(f"applications: none has import_path {IMPORT_PATH}, one must")
    return ours


def _our_application(key: str, values: dict[str, Any]) -> OurApplication:
    prefix = values.get("route_prefix") or "/"
    if not prefix.startswith("/") or (prefix.endswith("/") and prefix != "/"):
        raise StartupError(f"{key}.route_prefix: {prefix} must begin with / and not end with one: give / for all paths")
    args = {str(name): value for name, value in values.get("args", {}).items()}
    env_vars = values.get("runtime_env", {}).get("env_vars") or {}
    name = values.get("name", ServeApplicationSchema.model_fields["name"].default)
    return OurApplication(key, name, args, values.get("deployments", []), env_vars)


def _check(model: type[BaseModel], values: dict[str, Any], at: str) -> None:
    for key, value in values.items():
        if key not in model.model_fields:
            raise StartupError(f"{at}{key}: unknown key{suggestion(str(key), model.model_fields)}")
        if key == "runtime_env" and isinstance(value, dict):
            _check_runtime_env(value, f"{at}{key}.")
        for nested in models_in(model.model_fields[key].annotation):
            for inner, where in _mappings(value, f"{at}{key}"):
                _check(nested, inner, f"{where}.")
        if model is RayActorOptionsSchema and key == "resources" and isinstance(value, dict):
            _check_amounts(value, f"{at}{key}.")
    if model is AutoscalingPolicy and "policy_function" in values:
        _check_policy(values, at)
    if model is RequestRouterConfig and "request_router_class" in values:
        _check_router(values, at)
    _validate(model, values, at)


def _validate(model: type[BaseModel], values: dict[str, Any], at: str) -> None:
    try:
        model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        key = f"{at.rstrip('.')}{inside}".lstrip(".")
        raise StartupError(f"{key}: {' '.join(first['msg'].removeprefix('Value error, ').split())}") from None


def _mappings(value: Any, at: str) -> Iterator[tuple[dict[str, Any], str]]:
    if isinstance(value, dict):
        yield value, at
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if not isinstance(inner, dict):
                raise StartupError(f"{at}[{index}]: must be a mapping of keys to values")
            yield inner, f"{at}[{index}]"


def _check_runtime_env(values: dict[str, Any], at: str) -> None:
    for key in values:
        if key not in RuntimeEnv.known_fields:
            raise StartupError(f"{at}{key}: unknown key{suggestion(str(key), RuntimeEnv.known_fields)}")
    for name, value in dict(values.get("env_vars") or {}).items():
        if not isinstance(value, str):
            raise StartupError(f'{at}env_vars.{name}: {value} must be text: write "{value}"')


def _check_amounts(values: dict[str, Any], at: str) -> None:
    for name, amount in values.items():
        if not isinstance(amount, int | float) or amount < 0:
            raise StartupError(f"{at}{name}: {amount} must be a number, 0 or more")


def _check_policy(values: dict[str, Any], at: str) -> None:
    policy, kwargs = _imported(values["policy_function"], f"{at}policy_function"), values.get("policy_kwargs", {})
    if not callable(policy):
        raise StartupError(f"{at}policy_function: {values['policy_function']} is neither a class nor a function")
    with _located(at, "policy_kwargs"):
        if inspect.isclass(policy):
            policy(**kwargs)
        else:
            inspect.signature(policy).bind(None, **kwargs)


def _check_router(values: dict[str, Any], at: str) -> None:
    router = _imported(values["request_router_class"], f"{at}request_router_class")
    if not (inspect.isclass(router) and issubclass(router, RequestRouter)):
        raise StartupError(f"{at}request_router_class: {values['request_router_class']} is no request router")
    with _located(at, "request_router_kwargs"):
        kwargs = values.get("request_router_kwargs", {})
        inspect.signature(router.initialize_state).bind(router, **kwargs)
        if issubclass(router, PrefixRouter):
            RoutingRules(**kwargs)


@contextmanager
def _located(at: str, key: str) -> Iterator[None]:
    """Turns the errors of these arguments into StartupErrors that name their place. Our own already name the key."""
    try:
        yield
    except StartupError as error:
        raise StartupError(f"{at}{error}") from None
    except (TypeError, ValueError) as error:
        raise StartupError(f"{at}{key}: {error}") from None


def _imported(path: Any, at: str) -> Any:
    module, _, name = str(path).replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise StartupError(f"{at}: {path} cannot be imported ({error}): give module:name of an installed one") from None
