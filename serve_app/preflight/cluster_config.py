"""A cluster.yaml of `ray up` as the nodes that it may start."""

from pathlib import Path
from typing import Any

from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from serve_app.errors import StartupError
from serve_app.preflight.placement import Nodes, NodeType
from serve_app.preflight.serve_config import read_yaml


def read_cluster(path: Path) -> Nodes:
    """Nothing is asked of a cloud.

    Raises StartupError where `ray up` would refuse the file, or where it does not say what its nodes hold.
    """
    config = prepared(read_yaml(path), path.name)
    if config["provider"]["type"] == "local":
        raise StartupError(
            f"{path.name}: provider.type local: it does not say what its machines hold: leave --cluster out"
        )
    return nodes_of(config, path.name)


def prepared(config: dict[str, Any], source: str) -> dict[str, Any]:
    """With Ray's defaults filled in. Raises StartupError for what does not hold to Ray's schema."""
    try:
        filled = prepare_config(config)
        validate_config(filled)
    except ValidationError as error:
        key = ".".join(map(str, error.absolute_path)) or "the file"
        raise StartupError(f"{source}: {key}: {error.message}") from None
    except KeyError as error:
        raise StartupError(f"{source}: {error.args[0]} is missing") from None
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise StartupError(f"{source}: {' '.join(str(error).split())}") from None
    return filled


def nodes_of(config: dict[str, Any], source: str) -> Nodes:
    """Head included, of which there is one."""
    head = config["head_node_type"]
    types = tuple(
        NodeType(name, dict(values["resources"]), 1 if name == head else values["max_workers"])
        for name, values in config["available_node_types"].items()
    )
    return Nodes(source, types, config["max_workers"] + 1)
