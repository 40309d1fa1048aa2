"""Reads what config.json says, with the checkpoint's name before every error."""

from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import CsmConfig

from serve_app.errors import CheckpointError
from serve_app.messages import TrainedFor
from serve_app.model.shape import CsmShape
from serve_app.model.trained_for import read_trained_for


def parse_config(values: dict[str, Any], name: str) -> CsmConfig:
    """Raises CheckpointError, as all functions here do."""
    # Otherwise it warns of every special id of the real model, which it takes for ids of codes.
    transformers.logging.set_verbosity_error()
    try:
        return CsmConfig.from_dict(values)
    except (StrictDataclassError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: config.json cannot be read ({error}): download it again") from error


def shape_of(config: CsmConfig, name: str) -> CsmShape:
    try:
        return CsmShape.from_config(config)
    except CheckpointError as error:
        raise prefixed(name, error) from error


def trained_for(values: dict[str, Any], name: str) -> TrainedFor:
    try:
        return read_trained_for(values)
    except CheckpointError as error:
        raise prefixed(name, error) from error


def prefixed(name: str, error: CheckpointError) -> CheckpointError:
    return CheckpointError(f"{name}: {error}")
