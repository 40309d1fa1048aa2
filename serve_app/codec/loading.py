"""The codec that a checkpoint brings, placed as the settings say."""

from typing import Protocol

import torch
from moshi.models.compression import MimiModel
from transformers import MimiConfig

from serve_app.codec.mimi import load_mimi
from serve_app.model.checkpoint import Checkpoint, open_checkpoint
from serve_app.model.device import pick_device, use_threads
from serve_app.settings import Settings


class CudaLimit(Protocol):
    """The part of `torch.cuda` that is needed here."""

    def set_per_process_memory_fraction(self, fraction: float) -> None: ...


def load_codec(settings: Settings) -> tuple[Checkpoint, MimiModel]:
    """Raises StartupError where the checkpoint, its codec or the device cannot be used."""
    device = pick_device(settings.device)
    limit_memory(device, settings.codec.memory_fraction)
    use_threads(settings.codec.threads)
    checkpoint = open_checkpoint(settings.model, settings.revision)
    config = checkpoint.config.codec_config
    assert isinstance(config, MimiConfig), "CsmConfig makes it one"
    return checkpoint, load_mimi(checkpoint.codec_tensors(), config, checkpoint.shape.num_codebooks, device)


def limit_memory(device: torch.device, fraction: float, cuda: CudaLimit = torch.cuda) -> None:
    """From here on torch refuses to take more than `fraction` of the card: the neighbours' shares are theirs."""
    if device.type == "cuda":
        # No device is named: torch refuses one without an index here, and both mean the current one.
        cuda.set_per_process_memory_fraction(fraction)
