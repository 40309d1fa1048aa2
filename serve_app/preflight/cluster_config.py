"""Reads a cluster.yaml of `ray up`: the nodes that it may start."""

from pathlib import Path
from typing import Any

from jsonschema import ValidationError

from serve_app.deployments.ray_private import checked_cluster_config
from serve_app.errors import StartupError
from serve_app.preflight.placement import Nodes, NodeType
from serve_app.preflight.serve_config import read_yaml


def read_cluster(path: Path) -> Nodes:
    """The nodes that the file may start. No cloud is asked.

    Raises StartupError if `ray up` would refuse the file, or if it does not say what its nodes hold.
    """
    config = prepared(read_yaml(path), path.name)
    if config["provider"]["type"] == "local":
        raise StartupError(
            f"{path.name}: provider.type local: it does not say what its machines hold: leave --cluster out"
        )
    return nodes_of(config, path.name)


def prepared(config: dict[str, Any], source: str) -> dict[str, Any]:
    """The config with Ray's defaults filled in. Raises StartupError if it violates Ray's schema."""
    try:
        return checked_cluster_config(config)
    except ValidationError as error:
        key = ".".join(map(str, error.absolute_path)) or "the file"
        raise StartupError(f"{source}: {key}: {error.message}") from None
    except KeyError as error:
        raise StartupError(f"{source}: {error.args[0]} is missing") from None
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise StartupError(f"{source}: {' '.join(str(error).split())}") from None


def nodes_of(config: dict[str, Any], source: str) -> Nodes:
    """All node types, with the head, of which there is one."""
    head = config["head_node_type"]
    types = tuple(
        NodeType(name, dict(values["resources"]), 1 if name == head else values["max_workers"])
        for name, values in config["available_node_types"].items()
    )
    return Nodes(source, types, config["max_workers"] + 1)
