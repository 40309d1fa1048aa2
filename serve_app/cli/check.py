"""`csm-serve check` and `csm-serve deploy`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.errors import HubUnreachable

ConfigFile = Annotated[Path, typer.Argument(help="A Serve config, such as serve_app/configs/autoscaling.yaml.")]
ClusterFile = Annotated[
    Path | None, typer.Option("--cluster", help="A cluster.yaml whose nodes must hold all replicas.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not check that the model is there.")]


def check(config: ConfigFile, cluster: ClusterFile = None, offline: Offline = False) -> None:
    """Check a Serve config without starting anything: keys, settings, GPU shares, replicas, the model."""
    typer.echo(f"{config}: {_checked(config, cluster, offline)[0]}")


def deploy(
    config: ConfigFile,
    address: Annotated[str, typer.Option(help="Address of Ray's dashboard.")] = "http://127.0.0.1:8265",
    cluster: ClusterFile = None,
    offline: Offline = False,
) -> None:
    """Check a Serve config, then hand it to a running cluster. The same config again changes nothing."""
    summary, values = _checked(config, cluster, offline)
    from serve_app.preflight.deploy import deploy_config

    deploy_config(values, address)
    typer.echo(f"{config}: {summary}; taken by {address}: `serve status` shows its progress")


def _checked(config: Path, cluster: Path | None, is_offline: bool) -> tuple[str, dict[str, Any]]:
    """What the config says in one line, and the config. Raises StartupError."""
    # These modules bring Ray, which help and wrong options need not wait for.
    from serve_app.preflight.check import check_config
    from serve_app.preflight.serve_config import read_yaml

    values = read_yaml(config)
    try:
        return check_config(values, cluster, with_model=not is_offline), values
    except HubUnreachable as error:
        raise HubUnreachable(f"{error}; --offline leaves the model out") from error
