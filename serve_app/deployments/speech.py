"""The pipeline over deployment handles, for the replicas that ask for speech."""

from ray.serve.handle import DeploymentHandle

from serve_app.deployments.handles import DecoderHandle, EncoderHandle
from serve_app.metrics import Meter
from serve_app.settings import Settings
from serve_app.speech.failover import ResumingDecoder, RetryingEncoder
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.watch import Watcher


def speech_pipeline(
    encoder: DeploymentHandle, decoder: DeploymentHandle, settings: Settings, meter: Meter, watcher: Watcher
) -> SpeechPipeline:
    """It goes on with other replicas when those behind it die."""
    return SpeechPipeline(
        RetryingEncoder(EncoderHandle(encoder, settings.failover), settings.failover, meter),
        ResumingDecoder(DecoderHandle(decoder, settings.failover), settings.failover, meter),
        watcher,
    )
