"""Binds the graph: the only wiring. `serve run serve_app.app:build model=demo`."""

from typing import Any

import ray
from pydantic import BaseModel, ConfigDict, ValidationError
from ray import serve
from ray.serve import Application

from serve_app.deployments.audio_decoder import AudioDecoder
from serve_app.deployments.context_encoder import ContextEncoder
from serve_app.deployments.ingress import Ingress
from serve_app.deployments.options import computes_on_gpu, deployment_options, with_gpu_shares
from serve_app.deployments.token_generator import TokenGenerator
from serve_app.errors import StartupError
from serve_app.settings import Settings


class BuildArgs(BaseModel):
    """The run config's `args`: any of `settings.Settings`, checked there."""

    model_config = ConfigDict(extra="allow")


def build(args: BuildArgs) -> Application:
    """The graph as a Serve application, for `serve run` and Serve configs."""
    return build_graph(load_settings(args.model_dump()))


def build_graph(settings: Settings) -> Application:
    """Ingress -> ContextEncoder, and Ingress -> AudioDecoder -> TokenGenerator."""
    options = deployment_options(settings)
    if computes_on_gpu(settings, _cluster_has_gpu()):
        options = with_gpu_shares(options)

    def deployment(cls: type) -> serve.Deployment:
        return serve.deployment(name=cls.__name__, **options[cls.__name__])(cls)

    encoder = deployment(ContextEncoder).bind(settings)
    generator = deployment(TokenGenerator).bind(settings)
    decoder = deployment(AudioDecoder).bind(generator, settings)
    return deployment(serve.ingress()(Ingress)).bind(encoder, decoder, settings)


def _cluster_has_gpu() -> bool:
    """Whether a node that runs now has one. `serve run MODULE:build` builds before it starts Ray, which asking would
    do; so there the replicas get no share of a card, and find it themselves where they are."""
    return ray.is_initialized() and ray.cluster_resources().get("GPU", 0) > 0


def load_settings(args: dict[str, Any]) -> Settings:
    """`args` over the environment over the defaults; raises StartupError naming the first wrong one."""
    try:
        return Settings(**args)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise StartupError(f"setting {name}: {first['msg']}") from None
