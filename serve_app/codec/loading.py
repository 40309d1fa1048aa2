"""Loads the codec of a checkpoint."""

from moshi.models.compression import MimiModel
from transformers import MimiConfig

from serve_app.codec.memory_plan import DecoderMemory, announce
from serve_app.codec.mimi import empty_mimi, load_mimi
from serve_app.model.checkpoint import Checkpoint, open_checkpoint
from serve_app.model.device import pick_device, use_threads
from serve_app.model.device_memory import claim_memory
from serve_app.settings import Settings


def load_codec(settings: Settings, num_slots: int = 0) -> tuple[Checkpoint, MimiModel]:
    """The checkpoint and its codec. Raises StartupError where one of them or the device cannot be used.

    num_slots: of an audio decoder, whose memory on a card is planned before any of it is taken.
    """
    device = pick_device(settings.device)
    memory = claim_memory(device, settings.codec.memory_fraction, "codec.memory_fraction")
    use_threads(settings.codec.threads)
    checkpoint = open_checkpoint(settings.model, settings.revision, settings.base)
    config, num_codebooks = checkpoint.config.codec_config, checkpoint.shape.num_codebooks
    assert isinstance(config, MimiConfig), "CsmConfig makes it one"
    if num_slots and memory.is_card:
        announce(DecoderMemory.of(empty_mimi(config, num_codebooks)), num_slots, memory)
    return checkpoint, load_mimi(checkpoint.codec_tensors(), config, num_codebooks, device)
