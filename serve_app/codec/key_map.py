"""Checks that a checkpoint's codec tensors fill moshi's Mimi, by names and shapes alone."""

from collections.abc import Mapping

import torch
from transformers import MimiConfig

from serve_app.codec.mimi import load_mimi
from serve_app.errors import CheckpointError
from serve_app.model.checkpoint import Checkpoint


def codec_problem(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why tensors of these `shapes`, by stored name, do not fill the codec. None if each is used exactly once."""
    config = checkpoint.config.codec_config
    assert isinstance(config, MimiConfig), "CsmConfig makes it one"
    meta = torch.device("meta")
    tensors = [(name, torch.empty(shape, device=meta)) for name, shape in shapes.items()]
    try:
        load_mimi(tensors, config, checkpoint.shape.num_codebooks, meta)
    except CheckpointError as error:
        return str(error)
    return None
