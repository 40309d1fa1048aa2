"""Loads the codec of a checkpoint."""

from moshi.models.compression import MimiModel
from transformers import MimiConfig

from serve_app.codec.mimi import load_mimi
from serve_app.model.checkpoint import Checkpoint, open_checkpoint
from serve_app.model.device import limit_memory, pick_device, use_threads
from serve_app.settings import Settings


def load_codec(settings: Settings) -> tuple[Checkpoint, MimiModel]:
    """The checkpoint and its codec. Raises StartupError where one of them or the device cannot be used."""
    device = pick_device(settings.device)
    limit_memory(device, settings.codec.memory_fraction)
    use_threads(settings.codec.threads)
    checkpoint = open_checkpoint(settings.model, settings.revision, settings.base)
    config = checkpoint.config.codec_config
    assert isinstance(config, MimiConfig), "CsmConfig makes it one"
    return checkpoint, load_mimi(checkpoint.codec_tensors(), config, checkpoint.shape.num_codebooks, device)
