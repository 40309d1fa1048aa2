"""Binds the graph. This is the only wiring: `serve run serve_app.app:build model=demo`."""

import ray
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from serve_app.deployments.audio_decoder import AudioDecoderDeployment
from serve_app.deployments.context_encoder import ContextEncoderDeployment
from serve_app.deployments.fused_decoder import FusedDecoderDeployment
from serve_app.deployments.ingress import IngressDeployment
from serve_app.deployments.job_runner import JobRunnerDeployment
from serve_app.deployments.options import computes_on_gpu, deployment_options, with_gpu_shares
from serve_app.deployments.token_generator import TokenGeneratorDeployment
from serve_app.deployments.word_aligner import WordAlignerDeployment
from serve_app.settings import Settings, load_settings


class BuildArgs(BaseModel):
    """The `args` of a Serve config: any of `settings.Settings`, which checks them."""

    model_config = ConfigDict(extra="allow")


def build(args: BuildArgs) -> Application:
    """The graph as a Serve application, for `serve run` and Serve configs."""
    return build_graph(load_settings(args.model_dump()))


def build_graph(settings: Settings) -> Application:
    """Ingress and JobRunner -> ContextEncoder, and -> AudioDecoder -> TokenGenerator; Ingress -> WordAligner.

    In the fused graph, each AudioDecoder replica has its token generator inside.
    """
    options = deployment_options(settings)
    if computes_on_gpu(settings, _cluster_has_gpu()):
        options = with_gpu_shares(options)

    def deployment(name: str, cls: type) -> serve.Deployment:
        return serve.deployment(name=name, **options[name])(cls)

    encoder = deployment("ContextEncoder", ContextEncoderDeployment).bind(settings)
    if settings.graph == "fused":
        decoder = deployment("AudioDecoder", FusedDecoderDeployment).bind(settings)
    else:
        generator = deployment("TokenGenerator", TokenGeneratorDeployment).bind(settings)
        decoder = deployment("AudioDecoder", AudioDecoderDeployment).bind(generator, settings)
    aligner = deployment("WordAligner", WordAlignerDeployment).bind(settings)
    runner = deployment("JobRunner", JobRunnerDeployment).bind(encoder, decoder, settings)
    ingress = serve.ingress()(IngressDeployment)
    return deployment("Ingress", ingress).bind(encoder, decoder, settings, runner, aligner)


def _cluster_has_gpu() -> bool:
    """Whether a running node has a GPU. False before Ray runs: asking would start it.

    `serve run MODULE:build` builds the graph before it starts Ray. Its replicas get no share of a card, and find their
    node's card themselves.
    """
    return ray.is_initialized() and ray.cluster_resources().get("GPU", 0) > 0
