"""A Serve config as it is written: read, and refused for what Serve would let through or report late.

Serve's own schema ignores keys that it does not know, so a misspelt one is a silent default.
"""

import difflib
import importlib
import inspect
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from ray.runtime_env import RuntimeEnv
from ray.serve.config import AutoscalingPolicy, RequestRouterConfig
from ray.serve.schema import ServeDeploySchema

from serve_app.errors import StartupError

IMPORT_PATH = "serve_app.app:build"


@dataclass(frozen=True, slots=True)
class OurApplication:
    """The application of a Serve config that is this server. `key` is where it stands, as `applications[0]`."""

    key: str
    args: dict[str, Any]
    deployments: list[dict[str, Any]]

    def check_names(self, known: Iterable[str]) -> None:
        """Raises StartupError for a deployment that the built application does not have."""
        names = list(known)
        for index, deployment in enumerate(self.deployments):
            if (name := deployment["name"]) not in names:
                raise StartupError(
                    f"{self.key}.deployments[{index}].name: no deployment is called {name}{meant(name, names)}"
                )


def read_yaml(path: Path) -> dict[str, Any]:
    """Raises StartupError where it is no file that holds a mapping."""
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}: give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartupError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise StartupError(f"{path}: must be a mapping of keys to values")
    return values


def check_serve_config(config: dict[str, Any]) -> OurApplication:
    """Check every key and value that Serve reads. Raises StartupError naming the first wrong one."""
    _check(ServeDeploySchema, config, "")
    ours = [
        OurApplication(f"applications[{index}]", application.get("args", {}), application.get("deployments", []))
        for index, application in enumerate(config["applications"])
        if application["import_path"] == IMPORT_PATH
    ]
    if len(ours) != 1:
        raise StartupError(f"applications: {len(ours)} have import_path {IMPORT_PATH}, one must")
    return ours[0]


def meant(word: str, known: Iterable[str]) -> str:
    """The end of a message on an unknown word: what it is like, or what there is."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f": did you mean {near[0]}?" if near else f": use {', '.join(names)}"


def _check(model: type[BaseModel], values: dict[str, Any], at: str) -> None:
    for key, value in values.items():
        if key not in model.model_fields:
            raise StartupError(f"{at}{key}: unknown key{meant(str(key), model.model_fields)}")
        if key == "runtime_env" and isinstance(value, dict):
            _check_runtime_env(value, f"{at}{key}.")
        for nested in models_in(model.model_fields[key].annotation):
            for inner, where in _mappings(value, f"{at}{key}"):
                _check(nested, inner, f"{where}.")
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


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models that a field may hold."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def _mappings(value: Any, at: str) -> Iterator[tuple[dict[str, Any], str]]:
    if isinstance(value, dict):
        yield value, at
    elif isinstance(value, list):
        yield from ((inner, f"{at}[{index}]") for index, inner in enumerate(value) if isinstance(inner, dict))


def _check_runtime_env(values: dict[str, Any], at: str) -> None:
    for key in values:
        if key not in RuntimeEnv.known_fields:
            raise StartupError(f"{at}{key}: unknown key{meant(str(key), RuntimeEnv.known_fields)}")


def _check_policy(values: dict[str, Any], at: str) -> None:
    policy = _imported(values["policy_function"], f"{at}policy_function")
    if not inspect.isclass(policy):
        return
    try:
        policy(**values.get("policy_kwargs", {}))
    except StartupError as error:
        raise StartupError(f"{at}{error}") from None
    except (TypeError, ValueError) as error:
        raise StartupError(f"{at}policy_kwargs: {error}") from None


def _check_router(values: dict[str, Any], at: str) -> None:
    router = _imported(values["request_router_class"], f"{at}request_router_class")
    try:
        inspect.signature(router.initialize_state).bind(router, **values.get("request_router_kwargs", {}))
    except TypeError as error:
        raise StartupError(f"{at}request_router_kwargs: {error}") from None


def _imported(path: Any, at: str) -> Any:
    module, _, name = str(path).replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise StartupError(f"{at}: {path} cannot be imported ({error}): give module:name of an installed one") from None
