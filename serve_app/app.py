"""Binds the graph: the only wiring. `serve run serve_app.app:build model=demo`."""

from collections.abc import Sequence
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict, ValidationError
from ray import serve
from ray.serve import Application

from serve_app.deployments.audio_decoder import AudioDecoder
from serve_app.deployments.context_encoder import ContextEncoder
from serve_app.deployments.ingress import Ingress
from serve_app.deployments.job_runner import JobRunnerDeployment
from serve_app.deployments.options import computes_on_gpu, deployment_options, with_gpu_shares
from serve_app.deployments.token_generator import TokenGenerator
from serve_app.errors import StartupError
from serve_app.preflight.serve_config import meant, models_in
from serve_app.settings import Settings, misspelt_variables


class BuildArgs(BaseModel):
    """The run config's `args`: any of `settings.Settings`, checked there."""

    model_config = ConfigDict(extra="allow")


def build(args: BuildArgs) -> Application:
    """The graph as a Serve application, for `serve run` and Serve configs."""
    return build_graph(load_settings(args.model_dump()))


def build_graph(settings: Settings) -> Application:
    """Ingress and JobRunner -> ContextEncoder, and -> AudioDecoder -> TokenGenerator."""
    options = deployment_options(settings)
    if computes_on_gpu(settings, _cluster_has_gpu()):
        options = with_gpu_shares(options)

    def deployment(cls: type) -> serve.Deployment:
        name = cls.__name__.removesuffix("Deployment")
        return serve.deployment(name=name, **options[name])(cls)

    encoder = deployment(ContextEncoder).bind(settings)
    generator = deployment(TokenGenerator).bind(settings)
    decoder = deployment(AudioDecoder).bind(generator, settings)
    runner = deployment(JobRunnerDeployment).bind(encoder, decoder, settings)
    return deployment(serve.ingress()(Ingress)).bind(encoder, decoder, settings, runner)


def _cluster_has_gpu() -> bool:
    """Whether a node that runs now has one. `serve run MODULE:build` builds before it starts Ray, which asking would
    do; so there the replicas get no share of a card, and find it themselves where they are."""
    return ray.is_initialized() and ray.cluster_resources().get("GPU", 0) > 0


def load_settings(args: dict[str, Any]) -> Settings:
    """`args` over the environment over the defaults; raises StartupError naming the first wrong one."""
    for variable, near in misspelt_variables().items():
        raise StartupError(f"{variable}: there is no such setting; did you mean {near}?")
    try:
        return Settings(**args)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = _section(first["loc"][:-1]).model_fields
            raise StartupError(f"setting {name}: unknown{meant(str(first['loc'][-1]), known)}") from None
        raise StartupError(f"setting {name}: {first['msg']}") from None


def _section(path: Sequence[int | str]) -> type[BaseModel]:
    section: type[BaseModel] = Settings
    for part in path:
        section = next(models_in(section.model_fields[str(part)].annotation))
    return section
