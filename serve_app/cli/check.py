"""`csm-serve check` and `csm-serve deploy`: what is wrong with a Serve config is said before anything starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import requests
import typer
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from ray.exceptions import AuthenticationError
from ray.serve.schema import ServeDeploySchema

from serve_app.app import load_settings
from serve_app.deployments.listening import ALL_ADDRESSES, listens_on
from serve_app.deployments.live_settings import with_user_config
from serve_app.deployments.options import computes_on_gpu, deployment_options, most_in_engine, with_gpu_shares
from serve_app.errors import StartupError
from serve_app.keys.exposure import check_exposure
from serve_app.preflight.cluster_config import read_cluster
from serve_app.preflight.placement import Nodes, Replicas, check_nodes, check_shares, replicas_of
from serve_app.preflight.serve_config import OurApplication, check_serve_config, read_yaml
from serve_app.settings import Settings

ConfigFile = Annotated[Path, typer.Argument(help="A Serve config, as serve_app/configs/autoscaling.yaml.")]
ClusterFile = Annotated[
    Path | None, typer.Option("--cluster", help="The cluster.yaml that it is for: do its nodes hold all replicas?")
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not look whether the model is there.")]


def check(config: ConfigFile, cluster: ClusterFile = None, offline: Offline = False) -> None:
    """Check a Serve config, start nothing: keys, settings, shares of cards, replicas, the model. 1 where one fails."""
    typer.echo(f"{config}: {check_config(read_yaml(config), cluster, with_model=not offline)}")


def deploy(
    config: ConfigFile,
    address: Annotated[str, typer.Option(help="Ray's dashboard.")] = "http://127.0.0.1:8265",
    cluster: ClusterFile = None,
    offline: Offline = False,
) -> None:
    """Check a Serve config, then make a running cluster serve it. The same one again changes nothing."""
    values = read_yaml(config)
    summary = check_config(values, cluster, with_model=not offline)
    _put(ServeDeploySchema.model_validate(values).model_dump(exclude_unset=True), address)
    typer.echo(f"{config}: {summary}; taken by {address}: `serve status` tells how far it is")


def check_config(config: dict[str, Any], cluster: Path | None, with_model: bool) -> str:
    """What a right Serve config holds, in a few words. Raises StartupError naming the first key that is wrong."""
    application = check_serve_config(config)
    nodes = read_cluster(cluster) if cluster else None
    try:
        with _environment(application.env_vars):
            settings = load_settings(application.args)
        check_exposure(settings.keys, listens_on(config.get("http_options", {}).get("host", ALL_ADDRESSES)))
    except StartupError as error:
        raise StartupError(f"{application.key}.args: {error}") from None
    replicas = _check_deployments(application, settings, nodes)
    check_shares(replicas, settings)
    summary = f"fine: {sum(each.most for each in replicas)} replicas at most"
    if nodes:
        summary += f", on {check_nodes(replicas, nodes)} nodes of {nodes.source}"
    if with_model and settings.stand_in is None:
        check_model(settings)
    return summary


def _check_deployments(application: OurApplication, settings: Settings, nodes: Nodes | None) -> list[Replicas]:
    options = deployment_options(settings)
    if computes_on_gpu(settings, nodes is not None and any(each.resources.get("GPU") for each in nodes.types)):
        options = with_gpu_shares(options)
    application.check_names(options)
    application.check_policies()
    engine = settings.engine
    for index, deployment in enumerate(application.deployments):
        where, user_config = f"{application.key}.deployments[{index}]", deployment.get("user_config")
        if user_config is not None:
            try:
                live = with_user_config(settings, deployment["name"], user_config)
            except StartupError as error:
                raise StartupError(f"{where}.user_config: {error}") from None
            engine = live.engine if deployment["name"] == "TokenGenerator" else engine
    _check_room(application, options, most_in_engine(engine))
    return replicas_of(application, options)


def _check_room(application: OurApplication, options: dict[str, dict[str, Any]], most: int) -> None:
    """Raises StartupError where Serve would keep requests from an engine that has a place for them, or refuses them."""
    given = {each["name"]: (index, each) for index, each in enumerate(application.deployments)}
    for name in ("TokenGenerator", "AudioDecoder"):
        index, deployment = given.get(name, (None, {}))
        bound = (options[name] | deployment)["max_ongoing_requests"]
        if bound < most:
            where = name if index is None else f"{application.key}.deployments[{index}]"
            raise StartupError(
                f"{where}.max_ongoing_requests: {bound} is less than the {most} requests that an engine runs and keeps "
                f"waiting: the others would wait without an end where nobody refuses them; give {most} or more"
            )


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """As a process has it that Ray starts with these."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def check_model(settings: Settings) -> None:
    """Raises CheckpointError where the model's files are missing, or may not be fetched from here."""
    from serve_app.model.checkpoint import require_checkpoint

    require_checkpoint(settings.model, settings.revision)


def _put(config: dict[str, Any], address: str) -> None:
    try:
        ServeSubmissionClient(address).deploy_applications(config)
    except (ConnectionError, requests.RequestException):
        raise StartupError(
            f"--address {address}: no Ray dashboard answers there; `ray dashboard cluster.yaml` brings a cluster's to "
            "http://127.0.0.1:8265"
        ) from None
    except AuthenticationError:
        raise StartupError(
            f"--address {address}: the cluster refuses the token: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH to the file with the cluster's"
        ) from None
    except (RuntimeError, ValueError) as error:
        raise StartupError(f"--address {address}: {' '.join(str(error).split())}") from None
