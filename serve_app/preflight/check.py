"""Everything that is wrong with a Serve config, found before anything starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve_app.deployments.live_settings import live_keys, with_user_config
from serve_app.deployments.options import computes_on_gpu, deployment_options, most_in_engine, with_gpu_shares
from serve_app.deployments.ray_private import ALL_ADDRESSES, listens_on
from serve_app.errors import StartupError
from serve_app.keys.exposure import check_exposure
from serve_app.preflight.cluster_config import read_cluster
from serve_app.preflight.other_models import check_other_models
from serve_app.preflight.placement import Nodes, Replicas, check_nodes, check_shared_cards, check_shares, replicas_of
from serve_app.preflight.serve_config import OurApplication, check_serve_config
from serve_app.settings import Settings, load_settings


def check_config(config: dict[str, Any], cluster: Path | None, with_model: bool) -> str:
    """A summary of a valid Serve config, in a few words. Raises StartupError naming the first wrong key.

    cluster: a cluster.yaml whose nodes must hold all replicas. with_model: the model's files must be there too.
    """
    applications = check_serve_config(config)
    nodes = read_cluster(cluster) if cluster else None
    host = listens_on(config.get("http_options", {}).get("host", ALL_ADDRESSES))
    settings = [_check_settings(application, host) for application in applications]
    check_other_models(list(zip(applications, settings, strict=True)))
    placed: list[tuple[list[Replicas], Settings]] = []
    for application, own in zip(applications, settings, strict=True):
        placed.append((_check_deployments(application, own, nodes), own))
        check_shares(*placed[-1])
    check_shared_cards(placed)
    replicas = [each for ours, _ in placed for each in ours]
    summary = f"fine: {sum(each.most for each in replicas)} replicas at most"
    if nodes:
        summary += f", on {check_nodes(replicas, nodes)} nodes of {nodes.source}"
    for own in settings:
        if with_model and own.stand_in is None:
            _check_model(own)
    return summary


def _check_settings(application: OurApplication, host: str | None) -> Settings:
    try:
        with _environment(application.env_vars):
            settings = load_settings(application.args)
        check_exposure(settings.keys, host)
    except StartupError as error:
        raise StartupError(f"{application.key}.args: {error}") from None
    return settings


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
            engine = live.engine if "engine" in live_keys(settings)[deployment["name"]] else engine
    _check_max_ongoing_requests(application, options, most_in_engine(engine))
    return replicas_of(application, options)


def _check_max_ongoing_requests(application: OurApplication, options: dict[str, dict[str, Any]], most: int) -> None:
    """Raises StartupError if Serve would hold back requests that an engine has room for, or would refuse itself.

    most: requests that one engine runs and keeps waiting.
    """
    given = {each["name"]: (index, each) for index, each in enumerate(application.deployments)}
    for name in [each for each in ("TokenGenerator", "AudioDecoder") if each in options]:
        index, deployment = given.get(name, (None, {}))
        bound = (options[name] | deployment)["max_ongoing_requests"]
        if bound < most:
            where = name if index is None else f"{application.key}.deployments[{index}]"
            raise StartupError(
                f"{where}.max_ongoing_requests: {bound} is less than the {most} requests that an engine runs and keeps "
                f"waiting: the others would wait for ever, since only the engine refuses requests; give {most} or more"
            )


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """The environment of a process that Ray starts with these variables."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _check_model(settings: Settings) -> None:
    """Raises CheckpointError if the model's files are missing, or may not be fetched from here."""
    # Brings torch, which a wrong config need not wait for.
    from serve_app.model.checkpoint import require_checkpoint

    require_checkpoint(settings.model, settings.revision, settings.base)
