"""Deployment: the HTTP surface, over handles to the rest of the graph."""

from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app.api.app import build_api
from serve_app.deployments import replica_log
from serve_app.deployments.handles import DecoderHandle, EncoderHandle
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.ray_metrics_text import RayMetricsText
from serve_app.settings import Settings
from serve_app.speech.failover import ResumingDecoder, RetryingEncoder
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.watch import Watcher
from serve_app.tracing import open_tracer


class Ingress:
    def __init__(self, encoder: DeploymentHandle, decoder: DeploymentHandle, settings: Settings) -> None:
        replica_log.set_up(settings)
        self._settings = settings
        meter = RayMeter()
        replica = serve.get_replica_context().replica_id.unique_id
        self._pipeline = SpeechPipeline(
            RetryingEncoder(EncoderHandle(encoder), settings.failover, meter),
            ResumingDecoder(DecoderHandle(decoder, settings.failover.cold_wait_seconds), settings.failover, meter),
            Watcher(meter, open_tracer(settings.tracing, "Ingress", replica)),
        )

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Serve after the constructor, so that FastAPI is built where handles and settings exist."""
        return build_api(self._pipeline, self._settings, RayMetricsText())
